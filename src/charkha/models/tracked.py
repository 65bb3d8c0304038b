"""A run that MLflow hears of: the engine's run, with the tracker beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from charkha.events import Event, Listener, StepStarted
from charkha.models import tracker
from charkha.pipeline import run as engine
from charkha.pipeline.runs import Run
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.pipeline.steps import Pipeline
    from charkha.project import Project

CONTEXTS = {"mlflow": "charkha.models.capture:mlflow_logs"}


def run(
    pipeline: Pipeline[Any, Any] | None = None,
    /,
    *,
    project: Project | None = None,
    params: Mapping[str, object] | None = None,
    workers: int | None = None,
    listeners: Iterable[Listener] = (),
    wait: bool = True,
) -> Run:
    """Run a pipeline and have MLflow filled from its journal.

    A run in which every step is reused brings nothing new, so MLflow is not even started for it.

    Args:
        pipeline: by default the one that `[pipeline] entry` of charkha.toml names.
        project: by default the one around the current folder.
        params: parameters of the pipeline; text is read as the parameter's type.
        workers: how many processes may run steps at the same time.
        listeners: called with every event, after the journal has it.
        wait: return only when MLflow has everything, or cannot be reached.

    Raises:
        CharkhaError: the definition is wrong or a step failed.
    """
    project = project or open_project()
    starter = _Starter(project)
    done = engine.run(
        pipeline,
        project=project,
        params=params,
        workers=workers,
        listeners=[starter, *listeners],
        contexts=CONTEXTS,
    )
    if wait and starter.started:
        tracker.wait(project, done.id)
    return done


class _Starter:
    """Starts the tracker as soon as a step has to run, and those of runs that still wait."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._run = ""
        self.started = False

    def __call__(self, event: Event) -> None:
        run = getattr(event, "run", None)
        self._run = run or self._run
        if isinstance(event, StepStarted) and not self.started:
            self.started = True
            waiting = [
                run
                for run in tracker.pending(self._project)
                if tracker.read_state(self._project, run).state != tracker.FAILED
            ]
            tracker.start(self._project, self._run)
            for earlier in waiting[:1]:  # one at a time: each brings an MLflow of its own
                tracker.start(self._project, earlier)
