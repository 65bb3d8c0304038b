"""`charkha step`: what the tasks of an engine call: start a run, run its steps, finish it."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from charkha.cli import show
from charkha.cli.arguments import count, pair, parser, subcommand, subcommands
from charkha.cli.imports import Freezer
from charkha.cli.stories import run_as_json
from charkha.cli.telling import Teller, tell_mlflow
from charkha.errors import DONE, YOU, CharkhaError, UserError
from charkha.models import elsewhere, tracker
from charkha.models.tracked import CONTEXTS
from charkha.pipeline import tasks
from charkha.pipeline.boards import open_board
from charkha.pipeline.journal import new_id
from charkha.pipeline.parameters import given_as
from charkha.pipeline.runs import open_artifacts
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.cli.arguments import Subcommands
    from charkha.pipeline.boards import Opening
    from charkha.pipeline.reproducing import Reproduction
    from charkha.project import Project

# What an id of ours cannot have, and those of engines do: `manual__2026-01-01T00:00:00+00:00`.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def main(arguments: list[str]) -> int:
    """Run one `charkha step …` command line; return the exit code."""
    asked = _parser()
    given = asked.parse_args(arguments)
    if given.action != "all" and given.run is None and getattr(given, "outputs", None) is None:
        asked.error("--run says which run; for DVC, --outputs in which folder")
    signal.signal(signal.SIGTERM, _interrupted)  # how most engines stop a task
    project = open_project(environment=given.env)
    act = {"start": _start, "run": _run, "count": _count, "finish": _finish, "all": _all}
    return act[given.action](project, given)


def _start(project: Project, given: argparse.Namespace) -> int:
    opening = _begin(project, given)
    if given.found:
        handle = dict(pair(text) for text in given.found)
        submitting = import_module("charkha.pipeline.submitting")
        submitting.found(project, given.run, given.engine, handle)
    if given.json:
        show.as_json({"run": given.run, "engine": opening.engine, "steps": opening.started.steps})
    else:
        print(given.run)
    return DONE


def _begin(project: Project, given: argparse.Namespace) -> Opening:
    all_of_them = given_as(given.params, project.root) if given.params else {}
    params = {**all_of_them, **dict(pair(text) for text in given.param)}
    return tasks.begin(project, given.run, params, engine=given.engine, shape=given.shape)


def _run(project: Project, given: argparse.Namespace) -> int:
    if given.outputs and (given.begin or given.end or given.metrics):
        raise UserError("--begin, --end and --metrics are for a run", fix="take --outputs out")
    if given.begin:
        _begin(project, given)
    try:
        run = _perform(project, given)
    except CharkhaError:
        if given.end:
            elsewhere.conclude(project, given.run)
        raise
    if run and given.metrics:
        for name, value in elsewhere.metrics_of(project, run, given.step).items():
            show.note(f"metric {name}={value!r}")
    if given.end == "always":
        return _finish(project, given)
    if given.json:
        show.as_json({"run": run, "steps": given.step})
    return DONE


def _perform(project: Project, given: argparse.Namespace) -> str | None:
    """Perform what is asked for; return the run, None where there was no news for one."""
    with ExitStack() as stack:
        if given.json:
            stack.enter_context(redirect_stdout(sys.stderr))  # what steps print is no JSON
        teller = Teller(project, explain=True, quiet=given.json)
        stack.callback(teller.close)
        if given.outputs:
            return _reproduce(project, given, teller)
        tasks.perform(
            project,
            given.run,
            given.step,
            element=given.element,
            attempt=given.attempt,
            workers=given.workers,
            listeners=[Freezer(), teller],
            contexts=CONTEXTS,
        )
    run: str = given.run
    return run


def _all(project: Project, given: argparse.Namespace) -> int:
    given.run = given.run or new_id()
    given.step = list(_begin(project, given).graph.nodes)
    try:
        _perform(project, given)
    except CharkhaError as e:
        show.note(f"error: {e}")
    except KeyboardInterrupt:
        open_board(project, given.run).keep("stopped", {"by": "a signal"})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever asks again gets what it asks for
    return _finish(project, given)


def _reproduce(project: Project, given: argparse.Namespace, teller: Teller) -> str | None:
    """Perform steps from files into files; return the run, None where there was no news for one."""
    made: Reproduction = _reproducing().Reproduction(project, given.outputs, given.params)
    with _ended_where_it_fails(project, made):
        made.perform(
            given.step, workers=given.workers, listeners=[Freezer(), teller], contexts=CONTEXTS
        )
    return made.run.id if made.run.begun else None


def _reproducing() -> Any:
    return import_module("charkha.pipeline.reproducing")  # late: only DVC's stages need it


@contextmanager
def _ended_where_it_fails(project: Project, made: Reproduction) -> Iterator[None]:
    """End the run when a stage of it fails, for DVC starts no other one that could."""
    try:
        yield
    except (CharkhaError, KeyboardInterrupt) as e:
        if made.run.begun and not made.run.driven:
            if isinstance(e, KeyboardInterrupt):
                made.run.stop()
            elsewhere.conclude(project, made.run.id)
        raise


def _count(project: Project, given: argparse.Namespace) -> int:
    board = open_board(project, given.run)
    graph = board.opening().graph
    size = tasks.size_of(board, graph, given.step, open_artifacts(project))
    show.as_line(list(range(size)))
    return DONE


def _finish(project: Project, given: argparse.Namespace) -> int:
    run, news = given.run, False
    if given.outputs:
        made = _reproducing().Reproduction(project, given.outputs, given.params, given.run)
        with _ended_where_it_fails(project, made):
            made.finish()
        run = made.run.id
        if made.run.driven and given.run is None:
            return DONE  # whoever has begun it ends it, when DVC has ended
        news = not made.run.driven
    if given.stopped:
        open_board(project, run).keep("stopped", {"by": "a signal"})
    done = elsewhere.conclude(project, run, because=given.because, news=news)
    if given.kubeflow:
        import_module("charkha.models.kubeflow").write_outputs(project, run, given.kubeflow)
    if given.json:
        show.as_json(run_as_json(done))
    else:
        print(f"{done.status}: run {done.id}{f', {done.error}' if done.error else ''}")
        if (state := tracker.read_state(project, done.id)).run_id:
            tell_mlflow(state, wait=True)
    return DONE if done.status == "finished" else YOU


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _id(text: str) -> str:
    """Make a run's id of an engine's own; of `-`, where an engine has no empty words, none."""
    text = "" if text == "-" else text
    return text and (_UNFIT.sub("-", text).strip("-.") or "run")


class _FirstRun(argparse.Action):
    """Takes the first `--run` that is not empty: an engine's parameter, or else its own id."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.run = getattr(namespace, "run", None) or values


def _attempt(text: str) -> int:
    return 0 if text == "next" else count(text)


def _parser() -> argparse.ArgumentParser:
    made = parser("step", example="charkha step run --run 20261126-101500-001-ab12 --step fit")
    among = subcommands(made)
    start = _subcommand(among, "start", "begin a run, unless it was begun")
    start.add_argument(
        "--found",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="how the engine finds the run again; for `charkha runs`",
    )
    _add_beginning(start)
    start.add_argument("--shape", metavar="DIGEST", help="of the steps that the engine knows")
    _add_running(among)
    counting = _subcommand(among, "count", "print the elements of a fan-out: [0, 1, 2]")
    counting.add_argument("--step", metavar="NAME", required=True)
    finish = _subcommand(among, "finish", "end a run: write its journal, and fill MLflow")
    finish.add_argument("--because", metavar="TEXT", help="why, where no step can say so")
    finish.add_argument(
        "--stopped", action="store_true", help="somebody has stopped it: it was interrupted"
    )
    finish.add_argument(
        "--kubeflow", metavar="JSON", help="{{$}} of a task of Kubeflow: where its outputs go"
    )
    _add_params(finish)
    _add_place(finish)
    _add_whole(among)
    return made


def _add_running(among: Subcommands) -> None:
    run = _subcommand(among, "run", "perform steps of a run, or find them done")
    run.add_argument(
        "--step", metavar="NAME", action="append", required=True, help="again for more"
    )
    run.add_argument(
        "--element", type=int, metavar="N", help="of a fan-out, from 0; all without it"
    )
    run.add_argument(
        "--attempt",
        type=_attempt,
        metavar="N",
        help="the engine repeats what fails; this is the Nth, or `next` where it does not count",
    )
    run.add_argument("--begin", action="store_true", help="first begin the run, as `start` does")
    run.add_argument(
        "--end",
        choices=("failed", "always"),
        help="then end the run, as `finish` does: where a step fails, or in any case",
    )
    run.add_argument("--metrics", action="store_true", help="print the numbers that steps return")
    run.set_defaults(kubeflow=None, because=None, stopped=False)
    _add_beginning(run)
    run.add_argument("--shape", metavar="DIGEST", help="with --begin: of the engine's steps")
    _add_workers(run)
    _add_place(run)


def _add_whole(among: Subcommands) -> None:
    whole = _subcommand(among, "all", "begin a run, perform all its steps, end it")
    _add_beginning(whole)
    _add_workers(whole)
    whole.set_defaults(
        **dict.fromkeys(("shape", "element", "attempt", "kubeflow", "outputs", "because")),
        stopped=False,
    )


def _add_beginning(to: argparse.ArgumentParser) -> None:
    _add_params(to)
    to.add_argument("--param", metavar="NAME=VALUE", action="append", default=[])
    to.add_argument("--engine", metavar="NAME", default="by hand", help="that starts the tasks")


def _add_params(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--params", metavar="JSON|FILE", help="an object of JSON, or a file of it, or of YAML"
    )


def _add_workers(to: argparse.ArgumentParser) -> None:
    to.add_argument("--workers", type=count, metavar="N", help="steps at the same time")


def _add_place(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--outputs", metavar="DIR", type=Path, help="for DVC: where steps find and leave files"
    )


def _subcommand(among: Subcommands, name: str, text: str) -> argparse.ArgumentParser:
    made = subcommand(among, name, text, example=f"charkha step {name} --run RUN")
    made.add_argument(
        "--run", metavar="ID", type=_id, action=_FirstRun, help="the engine's or ours"
    )
    return made
