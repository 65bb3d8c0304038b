"""Runs and steps in the words and the JSON that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from charkha.cli import show
from charkha.console.stories.run import explained
from charkha.pipeline.runs import Run, StepStory, first_reason

if TYPE_CHECKING:
    from charkha.project import Project

JUDGE = "charkha.models.register:judge"
_MARKS = {
    "ran": "●",
    "reused": "○",
    "shared": "○",
    "failed": "✗",
    "crashed": "✗",
    "interrupted": "✗",
}


def as_lines(step: StepStory, project: Project, width: int, explain: bool) -> list[str]:
    """Return a step as a line, with every reason on a line of its own where asked for."""
    took = show.duration(step.seconds) if step.how == "ran" else ""
    head = f"  {_MARKS.get(step.how, '·')} {step.name:<{width}}  {step.how:<7}  {took:>8}"
    if not explain:
        return [f"{head}  {first_reason(step)}".rstrip()]
    return [head.rstrip(), *(f"      {text}" for text in explained(step, project))]


def run_as_json(run: Run) -> dict[str, object]:
    """Return a run for `--json`."""
    return {
        "run": run.id,
        "pipeline": run.started.pipeline if run.started else None,
        "params": run.started.params if run.started else {},
        "datasets": run.started.datasets if run.started else {},
        "commit": run.started.commit if run.started else None,
        "started_at": run.started_at,
        "status": run.status,
        "seconds": run.seconds,
        "error": run.error,
        "notices": run.notices,
        "steps": [step_as_json(step) for step in run.steps.values()],
    }


def step_as_json(step: StepStory) -> dict[str, object]:
    """Return a step for `--json`."""
    return {
        "name": step.name,
        "how": step.how,
        "because": [reason["text"] for reason in step.because],
        "seconds": step.seconds,
        "attempts": step.attempts,
        "key": step.key,
        "outputs": {name: artifact.as_json() for name, artifact in step.outputs.items()},
        "error": step.error,
    }


def verdicts(run: Run) -> list[dict[str, Any]]:
    """Return what the gates of a run said."""
    found = []
    for name, step in run.steps.items():
        if step.outputs and step.function == JUDGE:
            found.append(cast("dict[str, Any]", run.output(name)))
    return found
