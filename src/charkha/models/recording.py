"""What a run's journal says, in the words of an experiment tracker: pure, and the same each time.

The tracker that is filled with these records may be killed anywhere and filled again from the first
line on. So names, times and texts depend on the journal alone, never on when they were read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from charkha.events import RunFinished, RunStarted, StepFinished
from charkha.pipeline.artifacts import Artifact

if TYPE_CHECKING:
    from charkha.pipeline.journal import Line
    from charkha.project import Project

PACKAGE_STEP = "charkha.models.register:package_model"
GATE_STEP = "charkha.models.register:judge"
_NAME = re.compile(r"[^\w./ :-]")  # what no name of a metric, parameter or tag may have


class DatasetUse(NamedTuple):
    """A dataset that the run read, in one version."""

    name: str
    digest: str
    path: str


class Opened(NamedTuple):
    """The run begins."""

    run: str
    at_ms: int
    tags: dict[str, str]
    params: dict[str, str]
    datasets: tuple[DatasetUse, ...]


class Tagged(NamedTuple):
    """Something to show beside the run."""

    tags: dict[str, str]


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    at_ms: int
    step: int = 0


class Measured(NamedTuple):
    """Values of metrics."""

    points: tuple[Point, ...]


class FilesKept(NamedTuple):
    """A file, or all files of a folder, to be shown under `where`."""

    path: Path
    where: str


class TextKept(NamedTuple):
    """A text to be shown as the file `where`."""

    text: str
    where: str


class Captured(NamedTuple):
    """A file store with what a step logged through MLflow itself."""

    step: str
    folder: Path


class Judged(NamedTuple):
    """A package to register, with its verdict."""

    package: str  # digest
    folder: Path
    verdict: Mapping[str, object]
    step: str
    at: float  # seconds since 1970


class Closed(NamedTuple):
    """The run is over."""

    status: str  # "finished" | "failed" | "interrupted" | "crashed"
    at_ms: int


Record = Opened | Tagged | Measured | FilesKept | TextKept | Captured | Judged | Closed


class Loader(Protocol):
    """The part of `charkha.pipeline.artifacts.Artifacts` that is needed here."""

    def load(self, artifact: Artifact, wanted: type | None = None) -> object:
        """Return the value."""
        ...


class Names:
    """Gives every step's logs room in one run: a name that is taken gets the step's before it."""

    def __init__(self) -> None:
        self._metrics: dict[str, str] = {}
        self._params: dict[str, tuple[str, str]] = {}

    def metric(self, scope: str, name: str) -> str:
        """Return the name under which `scope` (a step, or a run inside one) logs this metric."""
        name = plain(name)
        return name if self._metrics.setdefault(name, scope) == scope else f"{plain(scope)}/{name}"

    def param(self, scope: str, name: str, value: str) -> str:
        """Return the name for this parameter; equal values share one."""
        name = plain(name)
        _, taken = self._params.setdefault(name, (scope, value))
        return name if taken == value else f"{plain(scope)}/{name}"


class Recording:
    """Turns the lines of one run's journal, given in order, into records."""

    def __init__(self, project: Project, run: str, artifacts: Loader) -> None:
        self._project, self._run, self._artifacts = project, run, artifacts
        self.names = Names()
        self._packages: dict[str, Artifact] = {}  # by step
        self._steps: dict[str, dict[str, object]] = {}
        self._ended = False
        self._last_at = 0.0

    def hear(self, line: Line) -> Iterator[Record]:
        """Yield what this line means."""
        self._last_at = line.at
        match line.event:
            case RunStarted() as event:
                yield self._opened(line.at, event)
            case StepFinished() as event:
                yield from self._finished(line.at, event)
            case RunFinished() as event:
                yield from self._closed(event.status)

    def will_judge(self) -> bool:
        """Return whether the run has a step after which a model may be registered, if that is known."""
        with suppress(FileNotFoundError):
            return any(node["function"] == GATE_STEP for node in self._graph()["nodes"].values())
        return False

    def crashed(self) -> Iterator[Record]:
        """Yield what is left to say when the journal ends without an end."""
        if not self._ended:
            yield from self._closed("crashed")

    def _opened(self, at: float, event: RunStarted) -> Opened:
        params = {
            self.names.param("", name, shown(value)): shown(value)
            for name, value in event.params.items()
        }
        tags = {
            "charkha.run": event.run,
            "charkha.pipeline": event.pipeline,
            "charkha.environment": event.environment,
            "charkha.host": event.host,
            "mlflow.runName": event.run,
            "mlflow.user": event.user,
            "mlflow.source.name": event.pipeline,
            "mlflow.source.type": "LOCAL",
        }
        if event.commit:
            tags["mlflow.source.git.commit"] = event.commit
            tags["charkha.git.dirty"] = str(event.dirty).lower()
        datasets = tuple(
            DatasetUse(name, version, self._data_path(name))
            for name, version in event.datasets.items()
        )
        return Opened(event.run, round(at * 1000), tags, params, datasets)

    def _finished(self, at: float, event: StepFinished) -> Iterator[Record]:
        outputs = {name: Artifact.from_json(kept) for name, kept in event.outputs.items()}
        self._steps[event.step] = {
            "function": event.function,
            "how": event.how,
            "key": event.key,
            "seconds": event.seconds,
            "outputs": {name: artifact.as_json() for name, artifact in outputs.items()},
        }
        digests = ", ".join(artifact.digest for artifact in outputs.values())
        yield Tagged({f"charkha.step.{plain(event.step)}": digests})
        if "mlflow" in event.captured:
            kept = Artifact.from_json(event.captured["mlflow"])
            yield Captured(event.step, cast("Path", self._artifacts.load(kept, Path)))
        if event.function == PACKAGE_STEP:
            yield from self._packaged(at, event.step, next(iter(outputs.values())))
        elif event.function == GATE_STEP:
            yield from self._judged(at, event.step, next(iter(outputs.values())))
        elif "metrics" in outputs and outputs["metrics"].codec == "json":
            yield self._measured(at, event.step, self._artifacts.load(outputs["metrics"]))

    def _packaged(self, at: float, step: str, package: Artifact) -> Iterator[Record]:
        self._packages[step] = package
        folder = cast("Path", self._artifacts.load(package, Path))
        manifest = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        yield self._measured(at, step, manifest["metrics"])
        where = f"reports/{manifest['name']}"
        for name in ("card.md", "plots"):
            if (folder / name).exists():
                yield FilesKept(folder / name, where)

    def _judged(self, at: float, step: str, verdict: Artifact) -> Iterator[Record]:
        said = cast("dict[str, object]", self._artifacts.load(verdict))
        yield TextKept(json.dumps(said, indent=2), f"reports/{said['model']}/verdict.json")
        package = self._packages[self._package_step(step)]
        folder = cast("Path", self._artifacts.load(package, Path))
        yield Judged(package.digest, folder, said, step, at)

    def _package_step(self, gate: str) -> str:
        """Return the step whose package the step `gate` judged, as the run's graph has it."""
        return str(self._graph()["nodes"][gate]["arguments"]["package"]["step"])

    def _graph(self) -> dict[str, Any]:
        graph = self._project.state / "runs" / self._run / "graph.json"
        made: dict[str, Any] = json.loads(graph.read_text(encoding="utf-8"))
        return made

    def _measured(self, at: float, step: str, metrics: object) -> Measured:
        return Measured(
            tuple(
                Point(self.names.metric(step, name), value, round(at * 1000))
                for name, value in numbers(metrics)
            )
        )

    def _closed(self, status: str) -> Iterator[Record]:
        self._ended = True
        yield TextKept(json.dumps(self._steps, indent=2), "steps.json")
        yield Closed(status, round(self._last_at * 1000))

    def _data_path(self, name: str) -> str:
        """Return where the dataset lies, or would after a pull, told by its pointer file."""
        folder = self._project.data.folder
        found = sorted(folder.glob(f"{name}.dvc")) or sorted(folder.glob(f"{name}.*.dvc"))
        return str(found[0].with_suffix("")) if found else str(folder / name)


def numbers(metrics: object, above: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a dict by name; those of a dict inside it as `outer.inner`."""
    if not isinstance(metrics, Mapping):
        return
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{above}{name}.")
        elif type(value) in (int, float) and math.isfinite(value):
            yield f"{above}{name}", float(value)


def plain(name: str) -> str:
    """Return a name that MLflow takes: `fit[0]` becomes `fit.0`."""
    return _NAME.sub("_", name.replace("[", ".").replace("]", ""))


def shown(value: object) -> str:
    """Return a parameter as text; what is no text as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
