"""A run in MLflow, filled record by record; filling it again with the same ones changes nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from charkha.errors import BackendError, Bug
from charkha.models.mlflow import ABSENT, connect, translated
from charkha.models.mlflow_captured import Logged, read_captured
from charkha.models.recording import (
    Captured,
    Closed,
    FilesKept,
    Judged,
    Measured,
    Names,
    Opened,
    Point,
    Record,
    Tagged,
    TextKept,
)

if TYPE_CHECKING:
    from charkha.project import TrackingSettings

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "crashed": "KILLED"}
_BATCH = 100  # parameters, tags or metrics in one request
_DIGEST = 36  # characters that MLflow has room for
_VALUE = 6000


class MlflowRun:
    """The run of one journal. Every method raises what `charkha.models.mlflow.translated` does."""

    def __init__(
        self, tracking: TrackingSettings, names: Names, known: Sequence[str | None] = ()
    ) -> None:
        """Use a run of `known` if MLflow has one that is ours or free: one that it made itself."""
        self._tracking, self._names, self._known = tracking, names, known
        self.client = connect(tracking.uri, tracking.endpoint_url)
        self._ids: tuple[str, str] | None = None

    @property
    def run_id(self) -> str:
        """MLflow's id of the run, once it was opened."""
        return self._opened[1]

    @property
    def experiment_id(self) -> str:
        """MLflow's id of its experiment."""
        return self._opened[0]

    @property
    def _opened(self) -> tuple[str, str]:
        if self._ids is None:
            raise Bug("a run was written to before it was opened")
        return self._ids

    def write(self, record: Record) -> None:
        """Bring MLflow up to date with one record."""
        with translated(self._tracking.uri):
            match record:
                case Opened():
                    self._open(record)
                case Tagged(tags):
                    self._log(tags=tags)
                case Measured(points):
                    self._log(points=points)
                case FilesKept(path, where):
                    self._keep(path, where)
                case TextKept(text, where):
                    self.client.log_text(self.run_id, text, where)
                case Captured(step, folder):
                    self._replay(step, folder)
                case Closed(status, at_ms):
                    self.client.set_terminated(self.run_id, _STATUS[status], at_ms)
                    self._log(tags={"charkha.status": status})
                case Judged():
                    pass  # a version and not the run: charkha.models.registration
                case _:
                    assert_never(record)

    def _open(self, record: Opened) -> None:
        params = record.params
        if lent := self._lent(record.run):
            self._ids = lent.info.experiment_id, lent.info.run_id
            # What MLflow says of itself stays: the project's name, and parameters as they were typed.
            self._log(tags={k: v for k, v in record.tags.items() if not k.startswith("mlflow.")})
            params = {k: v for k, v in params.items() if k not in lent.data.params}
        else:
            self._ids = self._found_or_made(record)
        self._log(params=params)
        if record.datasets:
            inputs = [
                DatasetInput(
                    Dataset(use.name, use.digest[:_DIGEST], "local", json.dumps({"uri": use.path})),
                    [InputTag("mlflow.data.context", "training")],
                )
                for use in record.datasets
            ]
            self.client.log_inputs(self.run_id, inputs)

    def _lent(self, run: str) -> Run | None:
        """Return the run that `mlflow run` has made for this one; None where there is none."""
        for known in filter(None, self._known):
            try:
                found = self.client.get_run(known)
            except MlflowException as e:
                if e.error_code not in ABSENT:
                    raise
                continue  # that MLflow was another one
            owner = found.data.tags.get("charkha.run")
            if owner == run or (owner is None and found.info.status == "RUNNING"):
                return found
        return None

    def _found_or_made(self, record: Opened) -> tuple[str, str]:
        experiment = self._experiment()
        found = self.client.search_runs(
            [experiment], filter_string=f"tags.`charkha.run` = '{record.run}'", max_results=1
        )
        if found:
            return experiment, found[0].info.run_id
        made = self.client.create_run(
            experiment, record.at_ms, record.tags, run_name=record.tags["mlflow.runName"]
        )
        return experiment, made.info.run_id

    def _experiment(self) -> str:
        name = self._tracking.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, self._artifact_root()))
            except MlflowException as e:
                if e.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            return self._experiment()  # another tracker was first
        if found.lifecycle_stage == "deleted":
            raise BackendError(
                f"MLflow's experiment {name!r} was deleted",
                fix=f"mlflow experiments restore --experiment-id {found.experiment_id}, or set "
                "[tracking] experiment to another name",
            )
        return str(found.experiment_id)

    def _artifact_root(self) -> str | None:
        """Return where a new experiment keeps its files; a server decides for itself."""
        root = self._tracking.artifacts
        if "://" in root:
            return root
        if self._tracking.uri.startswith(("http://", "https://")):
            return None
        return Path(root).as_uri()

    def _log(
        self,
        *,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        points: Sequence[Point] = (),
    ) -> None:
        metrics = [Metric(p.name, p.value, p.at_ms, p.step) for p in points]
        given = [Param(name, value[:_VALUE]) for name, value in (params or {}).items()]
        marks = [RunTag(name, value[:_VALUE]) for name, value in (tags or {}).items()]
        for start in range(0, max(len(metrics), len(given), len(marks)), _BATCH):
            part = slice(start, start + _BATCH)
            self.client.log_batch(self.run_id, metrics[part], given[part], marks[part])

    def _keep(self, path: Path, where: str) -> None:
        with _writable(path) as copy:
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(copy), f"{where}/{path.name}".strip("/"))
            else:
                self.client.log_artifact(self.run_id, str(copy), where or None)

    def _replay(self, step: str, folder: Path) -> None:
        """Log again what a step logged, into this run; its nested runs too."""
        with _writable(folder) as copy:
            for logged in read_captured(copy):
                self._replay_one(f"{step}/{logged.name}" if logged.nested else step, logged)

    def _replay_one(self, scope: str, logged: Logged) -> None:
        named = self._names
        self._log(
            params={
                named.param(scope, name, value): value for name, value in logged.params.items()
            },
            tags=logged.tags,
            points=[
                Point(named.metric(scope, p.name), p.value, p.at_ms, p.step) for p in logged.points
            ],
        )
        if logged.datasets:
            self.client.log_inputs(self.run_id, logged.datasets)
        for kept, where in logged.files:
            self._keep(kept, where)


@contextmanager
def _writable(path: Path) -> Iterator[Path]:
    """Lend a copy: ours are read-only, and MLflow copies the mode and then cannot overwrite."""
    with tempfile.TemporaryDirectory(prefix="charkha-") as folder:
        copy = Path(folder, path.name)
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, copy)
        yield copy
