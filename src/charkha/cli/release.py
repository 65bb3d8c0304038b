"""`charkha release`: move traffic to another version, and judge it all the way."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from charkha.cli import show
from charkha.cli.arguments import parser, subcommand, subcommands
from charkha.clock import to_second
from charkha.data.late import late
from charkha.errors import DONE, THEY, YOU, BackendError, Unavailable, UserError
from charkha.models.registry import find_version, list_versions, parse_reference
from charkha.project import Project, open_project

if TYPE_CHECKING:
    from charkha.release.kept import Release

_STRATEGIES = ("canary", "blue-green", "shadow", "rolling")
_PATIENCE_S = 600.0  # without an answer of the server, the registry or the ledger
_WATCH = "again and again, until it has ended; with --json a document on each line"
_MODEL = "name of the model; the project's own without it"


def main(arguments: list[str]) -> int:
    """Run one `charkha release …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    code: int = _ACTIONS[given.action](project, given)
    return code


def _parser() -> argparse.ArgumentParser:
    made = parser("release", example="charkha release start house-prices@4")
    among = subcommands(made)
    start = subcommand(
        among,
        "start",
        "release a version, and stay until it is decided",
        example="charkha release start house-prices@4 --strategy canary --steps 1,5,25,50,100",
    )
    start.add_argument("version", metavar="VERSION", help="NAME@4 or NAME@challenger")
    start.add_argument("--strategy", choices=_STRATEGIES, default="canary")
    start.add_argument("--steps", type=_steps, metavar="PERCENT,…", help="to 100; 0: a shadow")
    start.add_argument(
        "--detach", action="store_true", help="only record it; `charkha release run` carries it out"
    )
    run = subcommand(
        among,
        "run",
        "carry a release on, after its controller was ended",
        example="charkha release run",
    )
    run.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
    status = subcommand(
        among,
        "status",
        "show where a release is, and how sure",
        example="charkha release status --watch",
    )
    status.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
    status.add_argument("--watch", action="store_true", help=_WATCH)
    for name, text in (
        ("abort", "give the traffic back to the version before"),
        ("promote", "promote it now; while it is watched: end that"),
    ):
        told = subcommand(
            among, name, text, example=f'charkha release {name} --because "as agreed"'
        )
        told.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
        told.add_argument("--because", metavar="TEXT", help="why; it is kept in the ledger")
    history = subcommand(
        among, "history", "list what was decided, and why", example="charkha release history"
    )
    history.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
    return made


def _steps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no steps, such as 1,5,25,50,100") from None


def _start(project: Project, given: argparse.Namespace) -> int:
    starting = late("charkha.release.starting", extra="records")
    model, _ = parse_reference(given.version)
    with starting.surroundings(project, model) as around:
        release = starting.start(
            project, around, given.version, strategy=given.strategy, steps=given.steps
        )
        if given.detach:
            _show(release, as_json=given.json)
            show.note(f"charkha release run {model} carries it out, or a charkha loop that runs")
            return DONE
        show.note(
            f"{release.subject}, {given.strategy}: Ctrl-C stops the controller, not the release"
        )
        return _carry_out(project, around, model, as_json=given.json)


def _run(project: Project, given: argparse.Namespace) -> int:
    starting = late("charkha.release.starting", extra="records")
    model = _known(project, given.model)
    with starting.surroundings(project, model) as around:
        return _carry_out(project, around, model, as_json=given.json)


def _carry_out(project: Project, around: Any, model: str, *, as_json: bool) -> int:
    """Look until the release has ended; what does not answer for a while is asked again."""
    controlling = late("charkha.release.controller", extra="records")
    controller = controlling.Controller(model, around, who=_who())
    said, told_of = "", ""
    silent_since: float | None = None
    try:
        while True:
            try:
                did = controller.tick()
                release = _kept(around.states, model)
                silent_since = None
            except Unavailable as e:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since >= _PATIENCE_S:
                    raise
                if told_of != str(e):
                    show.note(f"waiting: {e}")
                    told_of = str(e)
                time.sleep(project.release.every_s)
                continue
            if did in ("ended", "nothing"):
                break
            if release.state.because != said:
                said = release.state.because
                show.note(f"{release.state.phase}: {said}")
            if did not in ("acted", "moved"):
                time.sleep(project.release.every_s)
    finally:
        controller.close()
    _show(release, as_json=as_json)
    return DONE if release.state.phase == "promoted" else YOU


def _status(project: Project, given: argparse.Namespace) -> int:
    model = _known(project, given.model)
    states = _states(project)
    try:
        while True:
            release = _kept(states, model)
            if given.watch and given.json:
                show.as_line(release.as_json())
            else:
                if given.watch and sys.stdout.isatty():
                    sys.stdout.write("\033[H\033[2J")
                _show(release, as_json=given.json)
            if not given.watch or release.ended_at is not None:
                return DONE
            time.sleep(project.release.every_s)
    finally:
        states.close()


def _command(project: Project, given: argparse.Namespace) -> int:
    starting = late("charkha.release.starting", extra="records")
    controlling = late("charkha.release.controller", extra="records")
    plans = late("charkha.release.plan", extra="records")
    model = _known(project, given.model)
    because = given.because or f"{_who()} said so"

    def change(release: Release) -> object:
        if given.action == "abort":
            return plans.abort(release.state, because)
        return plans.promote(release.plan, release.state, because)

    states = _states(project)
    try:
        _kept(states, model)  # or a word that there is none
    finally:
        states.close()
    with starting.surroundings(project, model) as around:
        controlling.command(around, model, change, who=_who())
        return _act_on(around, controlling, model, as_json=given.json)


def _act_on(around: Any, controlling: Any, model: str, *, as_json: bool) -> int:
    """Carry out what was asked for as far as that goes now; a controller that runs does the rest."""
    controller = controlling.Controller(model, around, who=_who())
    try:
        while (did := controller.tick()) in ("acted", "moved"):
            pass
    except Unavailable as e:
        show.note(f"it is recorded, and not yet carried out: {e}\n  → charkha release run {model}")
        return THEY
    finally:
        controller.close()
    if did == "busy":
        show.note("it is recorded; the controller that runs carries it out")
    elif did != "ended":
        show.note(f"it is recorded, and goes on with: charkha release run {model}")
    _show(_kept(around.states, model), as_json=as_json)
    return DONE


def _history(project: Project, given: argparse.Namespace) -> int:
    model = _known(project, given.model)
    ledger = late("charkha.ledger", extra="mlflow").open_ledger(project)
    try:
        told = ledger.read("release", model)
    finally:
        ledger.close()
    if given.json:
        show.as_json([vars(decision) for decision in told])
    elif not told:
        print(f"no release yet\n  → charkha release start {model}@challenger")
    else:
        rows = [
            (
                to_second(d.at),
                d.numbers["release"],
                d.subject,
                d.numbers["phase"],
                d.who,
                d.because,
            )
            for d in told
        ]
        show.table(("when", "release", "version", "state", "who", "because"), rows)
    return DONE


def _known(project: Project, named: str | None) -> str:
    """Return the model that is meant: the project's own, or one with versions; else say which are.

    Where the registry does not answer, the name is taken as it is: a release may have to be aborted.
    """
    if named is None or named == project.model.name:
        return project.model.name
    try:
        if not list_versions(project, named):
            find_version(project, named)  # raises, and says what may be meant
    except BackendError as e:
        show.note(f"whether there is a model {named!r} cannot be told: {e.what}")
    return named


def _who() -> str:
    name: str = late("charkha.ledger", extra="mlflow").who_acts()
    return name


def _states(project: Project) -> Any:
    ledger = late("charkha.ledger", extra="mlflow")
    return late("charkha.states", extra="mlflow").States(ledger.ledger_url(project))


def _kept(states: Any, model: str) -> Release:
    found = states.read("release", model)
    if found is None:
        raise UserError(
            f"no release of {model!r} was started", fix=f"charkha release start {model}@challenger"
        )
    kept: Release = late("charkha.release.kept", extra="tables").Release.from_json(found.value)
    return kept


def _show(release: Release, *, as_json: bool) -> None:
    if as_json:
        show.as_json(release.as_json())
    else:
        print("\n".join(late("charkha.release.drawing", extra="tables").lines(release)), flush=True)


_ACTIONS = {
    "start": _start,
    "run": _run,
    "status": _status,
    "abort": _command,
    "promote": _command,
    "history": _history,
}
