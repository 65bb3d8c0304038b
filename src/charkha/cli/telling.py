"""What `charkha run` and an engine's tasks say of each step: whether it ran, and why."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.stories import as_lines
from charkha.events import (
    Event,
    Noticed,
    RunStarted,
    StepFailed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from charkha.models import tracker
from charkha.pipeline.runs import Run, StepStory

if TYPE_CHECKING:
    from threading import Timer

    from charkha.project import Project

_SLOW_S = 0.5  # a step that takes longer gets a spinner


class Teller:
    """Prints a line for each step when it is over; a spinner while a slow one runs."""

    def __init__(self, project: Project, *, explain: bool, quiet: bool) -> None:
        self._run = Run("", project.root, project)
        self._explain, self._quiet = explain, quiet
        self._because: dict[str, StepStory] = {}
        self._width = 0
        self._timer: Timer | None = None
        self._spinner = ExitStack()

    def __call__(self, event: Event) -> None:
        if self._quiet:
            return
        match event:
            case RunStarted():
                self._width = max(map(len, event.steps))
                print(f"{show.bold(event.project)}  run {event.run}")
            case StepStarted():
                self._because[event.step] = StepStory(event.step, because=event.because)
                self._spin(event.step)
            case StepFinished():
                self.close()
                story = self._because.pop(event.step, StepStory(event.step))
                story.how, story.seconds = event.how, event.seconds
                for line in as_lines(story, self._run.project, self._width, self._explain):
                    print(line)
            case StepRetried():
                self.close()
                print(f"  ↻ {event.step:<{self._width}}  attempt {event.attempt}: {event.error}")
            case StepFailed():
                self.close()
                print(f"  ✗ {event.step:<{self._width}}  failed")
            case Noticed():
                self.close()
                print(f"    note: {f'{event.step} ' if event.step else ''}{event.text}")

    def close(self) -> None:
        """Stop the spinner."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None
        self._spinner.close()

    def _spin(self, step: str) -> None:
        self.close()
        if sys.stderr.isatty():
            timer = import_module("threading").Timer  # late: a run without a terminal needs none
            self._timer = timer(
                _SLOW_S, lambda: self._spinner.enter_context(show.working(f"{step} is running"))
            )
            self._timer.daemon = True
            self._timer.start()


def tell_mlflow(state: tracker.TrackingState, *, wait: bool) -> None:
    """Say what MLflow has of a run, and where."""
    for version in state.versions:
        alias = f" → {version['alias']}" if version.get("alias") else ""
        print(f"model {version['name']} version {version['version']}{alias}")
    if state.state == "done":
        print(f"MLflow has it: {state.uri}, run {state.run_id}")
    elif state.state == tracker.RECORDING and not wait:
        print("MLflow is being filled in the background")
    else:
        print(f"MLflow does not have it yet: {state.error}")
        again = "" if state.state == tracker.FAILED else "the next `charkha run` or "
        print(f"  → nothing is lost; {again}`charkha runs sync` tries again")
