"""`charkha run`: run the pipeline, say of each step whether it ran and why."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.arguments import pair, parser
from charkha.cli.imports import Freezer
from charkha.cli.stories import run_as_json, verdicts
from charkha.cli.telling import Teller, tell_mlflow
from charkha.errors import DONE, YOU, UserError
from charkha.models import tracked, tracker
from charkha.pipeline.runs import Run
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project


def main(arguments: list[str]) -> int:
    """Run the project's pipeline."""
    options = parser("run", example="charkha run --param alpha=0.3 --workers 2 --explain")
    options.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[], help="can be given again"
    )
    options.add_argument("--workers", type=int, metavar="N", help="steps at the same time")
    options.add_argument("--explain", action="store_true", help="every reason why a step ran")
    options.add_argument("--no-wait", action="store_true", help="do not wait until MLflow has it")
    options.add_argument("--on", metavar="ENGINE", help="have another engine run the steps")
    options.add_argument(
        "--detach", action="store_true", help="with --on: return when the engine has taken it"
    )
    options.add_argument(
        "--run", metavar="ID", type=_id, help="with --on: under this id; followed if it has it"
    )
    given = options.parse_args(arguments)
    project = open_project(environment=given.env)
    if given.workers is not None and given.workers < 1:
        raise UserError(f"--workers {given.workers} runs nothing", fix="--workers 1")
    params = dict(pair(text) for text in given.param)
    if given.on and given.on != "local":
        return _elsewhere(project, params, given)
    for name in ("detach", "run"):
        if getattr(given, name):
            what = f"--{name} is for a run on another engine"
            raise UserError(what, fix="charkha run --on airflow")
    with ExitStack() as stack:
        if given.json:
            stack.enter_context(redirect_stdout(sys.stderr))  # what steps print is no JSON
        teller = Teller(project, explain=given.explain, quiet=given.json)
        stack.callback(teller.close)
        done = tracked.run(
            project=project,
            params=params,
            workers=given.workers,
            listeners=[Freezer(), teller],
            wait=False,
        )
        teller.close()
        if not given.json:
            _conclude(project, done)
        state = _tracking(project, done, wait=not given.no_wait, quiet=given.json)
    if given.json:
        show.as_json({**run_as_json(done), "mlflow": state._asdict() if state else None})
    return DONE


def _id(text: str) -> str:
    if not re.fullmatch(r"\d[A-Za-z0-9._-]*", text):  # as ours do; and engines keep it as it is
        raise argparse.ArgumentTypeError(f"{text!r} is no id of a run, such as 20261126-101500")
    return text


def _elsewhere(project: Project, params: dict[str, str], given: argparse.Namespace) -> int:
    submitting = import_module("charkha.pipeline.submitting")  # late: a run here needs none of it
    if given.run:
        submitting.check_is_for(project, given.run, given.on)
    run = submitting.submit(project, given.on, params=params, run=given.run)
    if given.detach:
        if given.json:
            show.as_json({"run": run, "engine": given.on})
        else:
            print(f"{given.on} has run {run}\n  → charkha runs {run}")
        return DONE
    teller = Teller(project, explain=given.explain, quiet=given.json)
    try:
        done = submitting.follow(project, run, [teller])
    except KeyboardInterrupt:
        teller.close()
        show.note(f"\nstopping run {run} on {given.on}")
        submitting.cancel(project, run)
        raise
    finally:
        teller.close()
    state = import_module("charkha.models.elsewhere").state_of(project, run)
    if given.json:
        show.as_json({**run_as_json(done), "mlflow": state._asdict() if state else None})
    else:
        _conclude(project, done)
        if state is not None:
            tell_mlflow(state, wait=True)
        if done.error:
            show.note(f"error: {done.error}\n  → charkha runs {run}")
    return DONE if done.status == "finished" else YOU


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
        tell_mlflow(state, wait=wait)
    return state
