"""One attempt to bring a run into MLflow: journal lines in, records and versions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.errors import Bug
from charkha.models.mlflow import MlflowRegistry
from charkha.models.mlflow_runs import MlflowRun
from charkha.models.recording import Judged, Opened, Record, Recording
from charkha.models.registration import Registered, register
from charkha.models.tracker import lent_run, read_state
from charkha.pipeline.runs import open_artifacts

if TYPE_CHECKING:
    from types import ModuleType

    from charkha.pipeline.journal import Line
    from charkha.project import Project


def fill(project: Project, run: str, lines: Iterable[Line], reached: Callable[..., None]) -> None:
    """Write all that `lines` say, in their order, as they come.

    Args:
        project: whose MLflow is filled.
        run: the run that the lines are of.
        lines: from the first one on, even if some have been written before.
        reached: told, by keyword, which fields of TrackingState have become known.

    Raises:
        Unavailable: MLflow does not answer; all of it may be tried again.
        CharkhaError: it can not be written, now or later.
    """
    recording = Recording(project, run, open_artifacts(project))
    known = (read_state(project, run).run_id, lent_run())
    filler = _Filler(project, MlflowRun(project.tracking, recording.names, known), reached)
    for line in lines:
        for record in recording.hear(line):
            filler.write(record)
            if isinstance(record, Opened) and recording.will_judge():
                _models()  # while the run goes on, so that a version does not wait for it
    for record in recording.crashed():
        filler.write(record)


class _Filler:
    def __init__(self, project: Project, run: MlflowRun, reached: Callable[..., None]) -> None:
        self._project, self._run, self._reached = project, run, reached
        self._opened: Opened | None = None
        self._registered: list[Registered] = []

    def write(self, record: Record) -> None:
        self._run.write(record)
        if isinstance(record, Opened):
            self._opened = record
            self._reached(
                run_id=self._run.run_id,
                experiment_id=self._run.experiment_id,
                uri=self._project.tracking.uri.rpartition("@")[2],
            )
        elif isinstance(record, Judged):
            self._registered.append(self._register(record))
            self._reached(versions=tuple(each._asdict() for each in self._registered))

    def _register(self, judged: Judged) -> Registered:
        if self._opened is None:
            raise Bug("a model was judged before its run began")
        tracking = self._project.tracking
        return register(
            self._project,
            MlflowRegistry(tracking.uri, tracking.endpoint_url),
            self._opened,
            judged,
            lambda: (_models().log_model(self._project, self._run, judged), self._run.run_id),
        )


def _models() -> ModuleType:
    """Return what makes models of packages; late, for it brings skops and scikit-learn: 3 s."""
    return import_module("charkha.models.mlflow_models")
