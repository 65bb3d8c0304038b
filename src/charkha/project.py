"""charkha.toml parsed once into typed settings for one environment; nothing else reads it.

A relative path in the file starts at the project's root, and is absolute here. A secret is a
reference (`env:NAME`, `file:PATH`) until `resolve_secret` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

from charkha.definition import Definition, is_reference, setting, settings_of
from charkha.errors import ProjectError, UserError

FILE = "charkha.toml"


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """Which function makes the graph, and how its steps run."""

    entry: str = setting("file of the pipeline; `file.py:function` where it has two", "pipeline.py")
    params: dict[str, object] = setting("parameters that `--param` does not give", dict)
    workers: int = setting("steps that run at the same time, each in a process", 1, least=1)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where datasets lie here, and where DVC keeps their versions."""

    folder: Path = setting(
        "folder of the datasets and of their `.dvc` files", Path("data"), path=True
    )
    remote: str = setting(
        "DVC's remote: a folder or `s3://bucket/prefix`", ".charkha/remote", path=True
    )
    endpoint_url: str | None = setting("S3 endpoint of the remote, where it is not AWS", None)


@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """Where the bytes of artifacts lie."""

    url: str = setting("a folder or `s3://bucket/prefix`", ".charkha/blobs", path=True)
    endpoint_url: str | None = setting("S3 endpoint, where it is not AWS", None)
    access_key: str | None = setting("S3 access key; without it AWS's own chain", None, secret=True)
    secret_key: str | None = setting("S3 secret key", None, secret=True)


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """The MLflow that remembers runs and model versions."""

    uri: str = setting(
        "`sqlite:///file`, `http(s)://…` or `postgresql://…`; with a password in it: `env:NAME`",
        "sqlite:///.charkha/mlflow.db",
        url=True,
    )
    artifacts: str = setting(
        "MLflow's artifacts: a folder or `s3://bucket/prefix`", ".charkha/mlartifacts", path=True
    )
    experiment: str = setting("MLflow's experiment for the runs", "", project_name=True)
    endpoint_url: str | None = setting("S3 endpoint of the artifacts, where it is not AWS", None)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the model is called and what it predicts."""

    name: str = setting("name in the registry", "", name=True, project_name=True)
    target: str | None = setting("column that the model predicts", None)
    task: Literal["regression", "classification"] | None = setting(
        "told from the target without it", None, choices=("regression", "classification")
    )


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """A rule that a candidate has to pass; one `[[gate]]` for each."""

    metric: str = setting("a metric of the held-out rows, such as `rmse` or `auc`")
    at_most: float | None = setting("highest value that passes", None)
    at_least: float | None = setting("lowest value that passes", None)
    better_than: Literal["champion"] | None = setting(
        "compare with the champion on the same rows", None, choices=("champion",)
    )
    by: float = setting("how much better, in the unit of the metric", 0.0, least=0)

    @staticmethod
    def problem(given: Mapping[str, object]) -> tuple[str, str, str] | None:
        """Return key, fault and fix of a rule that says nothing."""
        if not given.keys() & {"at_most", "at_least", "better_than"}:
            return "metric", "this gate lets every model pass", 'better_than = "champion"'
        if "by" in given and "better_than" not in given:
            return "by", "better by this, than what?", 'better_than = "champion"'
        return None


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Where `charkha serve` listens."""

    host: str = setting("address; `0.0.0.0` to be reached from other machines", "127.0.0.1")
    port: int = setting("port; 0 takes a free one", 8000, least=0, most=65535)


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the project is called, and what it may do."""

    root: Path
    environment: str
    name: str = setting("name of the project", "", name=True, folder_name=True)
    allow_pickle: bool = setting("keep values that no codec knows as pickles", False)
    pipeline: PipelineSettings
    data: DataSettings
    blobs: BlobSettings
    tracking: TrackingSettings
    model: ModelSettings
    gate: tuple[GateSettings, ...]
    serving: ServingSettings

    @property
    def state(self) -> Path:
        """The folder of all that is not in git: runs, cache, and by default blobs and MLflow."""
        return self.root / ".charkha"


SECTIONS: dict[str, type] = {
    "project": Project,
    "pipeline": PipelineSettings,
    "data": DataSettings,
    "blobs": BlobSettings,
    "tracking": TrackingSettings,
    "model": ModelSettings,
    "gate": GateSettings,
    "serving": ServingSettings,
}
LISTS = ("gate",)


def open_project(start: Path | None = None, environment: str | None = None) -> Project:
    """Return the project around `start` (the current folder without it).

    The environment is the one asked for, else that of `CHARKHA_ENV`, else `local`.

    Raises:
        ProjectError: there is no charkha.toml, or something in it is wrong.
    """
    file = _find((start or Path.cwd()).resolve())
    environment = environment or os.environ.get("CHARKHA_ENV") or "local"
    return _build(file.parent, Definition(file, SECTIONS, LISTS).tables(environment), environment)


def default_project(root: Path) -> Project:
    """Return a project of which nothing was defined: for notebooks and tests."""
    return _build(root.resolve(), {}, "local")


def resolve_secret(reference: str) -> str:
    """Return what `env:NAME` or `file:PATH` refers to.

    Raises:
        UserError: there is no such variable or file.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if name not in os.environ:
            raise UserError(f"the environment variable {name} is not set", fix=f"export {name}=…")
        return os.environ[name]
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as e:
        raise UserError(
            f"the secret in {name} cannot be read: {e.strerror}",
            fix="write it there, readable for you alone",
        ) from e


def _find(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ProjectError(
        f"no {FILE} here, nor in a folder above", where=str(start), fix="charkha init DIR; cd DIR"
    )


def _build(root: Path, tables: Mapping[str, Any], environment: str) -> Project:
    name = tables.get("project", {}).get("name") or root.name

    def read(section: str, kind: type) -> object:
        given = tables.get(section, ())
        if section in LISTS:
            return tuple(kind(**_values(kind, item, root, name)) for item in given)
        return kind(**_values(kind, given or {}, root, name))

    sections: dict[str, Any] = {
        section: read(section, kind) for section, kind in SECTIONS.items() if kind is not Project
    }
    own = _values(Project, tables.get("project", {}), root, name)
    return Project(root=root, environment=environment, **own, **sections)


def _values(kind: type, given: Mapping[str, Any], root: Path, name: str) -> dict[str, Any]:
    """Return the values of a section, given or by default, with their references made absolute."""
    values = {}
    for declared in settings_of(kind):
        marks = declared.metadata
        by_default = (
            name if marks.get("project_name") or marks.get("folder_name") else declared.default
        )
        value = given.get(declared.name, by_default)
        if value is MISSING:  # params: the class makes an empty one
            continue
        if marks.get("path"):
            absolute = _absolute(str(value), root)
            value = Path(absolute) if declared.type == "Path" else absolute
        elif (marks.get("url") or marks.get("secret")) and value is not None:
            value = _absolute_reference(value, root)
        if marks.get("url") and is_reference(value):
            value = resolve_secret(value)
        values[declared.name] = float(value) if isinstance(by_default, float) else value
    return values


def _absolute(path: str, root: Path) -> str:
    return path if "://" in path else str(root / Path(path).expanduser())


def _absolute_reference(value: str, root: Path) -> str:
    for start in ("sqlite:///", "file:"):
        path = value.removeprefix(start)
        if path != value and not path.startswith("//"):
            return start + _absolute(path, root)
    return value
