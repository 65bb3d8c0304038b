"""`charkha run`: run the pipeline, say of each step whether it ran and why."""

from __future__ import annotations

import sys
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.cli.stories import as_lines, run_as_json, verdicts
from charkha.errors import DONE, UserError
from charkha.events import (
    Event,
    Noticed,
    RunStarted,
    StepFailed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from charkha.models import tracked, tracker
from charkha.pipeline.runs import Run, StepStory
from charkha.project import open_project

if TYPE_CHECKING:
    from threading import Timer

    from charkha.project import Project

_SLOW_S = 0.5  # a step that takes longer gets a spinner


def main(arguments: list[str]) -> int:
    """Run the project's pipeline."""
    options = parser("run", example="charkha run --param alpha=0.3 --workers 2 --explain")
    options.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[], help="can be given again"
    )
    options.add_argument("--workers", type=int, metavar="N", help="steps at the same time")
    options.add_argument("--explain", action="store_true", help="every reason why a step ran")
    options.add_argument("--no-wait", action="store_true", help="do not wait until MLflow has it")
    given = options.parse_args(arguments)
    project = open_project(environment=given.env)
    if given.workers is not None and given.workers < 1:
        raise UserError(f"--workers {given.workers} runs nothing", fix="--workers 1")
    params = dict(_pair(text) for text in given.param)
    with ExitStack() as stack:
        if given.json:
            stack.enter_context(redirect_stdout(sys.stderr))  # what steps print is no JSON
        teller = _Teller(project, explain=given.explain, quiet=given.json)
        stack.callback(teller.close)
        done = tracked.run(
            project=project,
            params=params,
            workers=given.workers,
            listeners=[teller],
            wait=False,
        )
        teller.close()
        if not given.json:
            _conclude(project, done)
        state = _tracking(project, done, wait=not given.no_wait, quiet=given.json)
    if given.json:
        show.as_json({**run_as_json(done), "mlflow": state._asdict() if state else None})
    return DONE


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--param {text!r} has no value", fix=f"--param {name or 'alpha'}=0.3")
    return name, value


class _Teller:
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


def _conclude(project: Project, done: Run) -> None:
    ran = sum(step.how == "ran" for step in done.steps.values())
    print(f"{done.status} in {show.duration(done.seconds)}: {ran} ran, {done.cached} reused")
    for verdict in verdicts(done):
        word = "passed" if verdict["passed"] else "refused"
        print(f"gate {word}")
        for reason in verdict["because"]:
            print(f"  {reason}")
        for warning in verdict["warnings"]:
            print(f"  warning: {warning}")


def _tracking(
    project: Project, done: Run, *, wait: bool, quiet: bool
) -> tracker.TrackingState | None:
    """Wait for MLflow and say what it has; None where this run brought it nothing."""
    if not (tracker.is_tracked(project, done.id) or done.id in tracker.pending(project)):
        state = tracker.read_state(project, done.id)
        if state.state != "done":
            return None
    elif wait:
        with show.working("waiting for MLflow (--no-wait does not)"):
            state = tracker.wait(project, done.id)
    else:
        state = tracker.read_state(project, done.id)
    if not quiet:
        _tell(state, wait=wait)
    return state


def _tell(state: tracker.TrackingState, *, wait: bool) -> None:
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
