"""A run on another engine that MLflow hears of: ended, and what MLflow has made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.events import StepFinished
from charkha.models import tracker
from charkha.models.recording import GATE_STEP, Measured, Recording
from charkha.pipeline import tasks
from charkha.pipeline.boards import open_board
from charkha.pipeline.runs import open_artifacts

if TYPE_CHECKING:
    from collections.abc import Collection

    from charkha.pipeline.runs import Run
    from charkha.project import Project


def conclude(project: Project, run: str, *, because: str | None = None, news: bool = False) -> Run:
    """End a run whose tasks an engine started, and wait until MLflow has it.

    Args:
        project: as this machine has it.
        run: its id.
        because: why it failed, where no step can say it.
        news: whether MLflow may lack something though no step ran.
    """
    done = tasks.conclude(project, run, because=because)
    if news or tracker.lent_run() or any(step.attempts for step in done.steps.values()):
        tracker.start(project, run)
        open_board(project, run).keep("mlflow", tracker.wait(project, run)._asdict())
    return done


def state_of(project: Project, run: str) -> tracker.TrackingState | None:
    """Return what MLflow made of a run on another engine; None where it brought it nothing."""
    kept = open_board(project, run).kept("mlflow")
    return tracker.TrackingState(**kept) if kept else None  # type: ignore[arg-type]


def metrics_of(
    project: Project, run: str, steps: Collection[str] | None = None
) -> dict[str, float]:
    """Return the numbers that steps of a run (all of them without any) returned as metrics."""
    recording = Recording(project, run, open_artifacts(project))
    return {
        point.name: point.value
        for line in open_board(project, run).lines()
        if isinstance(line.event, StepFinished) and line.event.function != GATE_STEP
        if steps is None or line.event.step.partition("[")[0] in steps
        for record in recording.hear(line)
        if isinstance(record, Measured)
        for point in record.points
    }
