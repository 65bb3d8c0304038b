"""`charkha loop`: train again when there is a reason, and release what is better; once or always."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from charkha.cli import show
from charkha.cli.arguments import parser, seconds
from charkha.clock import to_second
from charkha.data.late import late
from charkha.errors import DONE, YOU, BackendError
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.loop.controller import Loop
    from charkha.loop.turns import Kept, Turn
    from charkha.project import Project

_GOOD = ("promoted", "unchanged")


def main(arguments: list[str]) -> int:
    """Run the loop of one model; return the exit code."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    model = given.model or project.model.name
    opening = late("charkha.loop.opening", extra="loop")
    opening.check_model(project, model)
    if given.status:
        return _status(opening.kept_of(project, model), model, as_json=given.json)
    with opening.open_loop(project, model, checked=not given.abort) as loop:
        if given.abort:
            teller = _Teller(opening, project, model, as_json=given.json)
            who = opening.who_acts()
            return _abort(loop, teller, given.because or f"{who} said so", who)
        wish = None
        if given.now:  # after the settings were found to be good
            wish = opening.ask(project, model, given.because or "asked for a turn")
        teller = _Teller(opening, project, model, as_json=given.json)
        if given.daemon:
            return _always(loop, teller, given.every or project.loop.every_s)
        return _once(loop, teller, wish)


def _parser() -> argparse.ArgumentParser:
    made = parser("loop", example="charkha loop --daemon --every 60")
    made.add_argument(
        "model", metavar="MODEL", nargs="?", help="name of the model; the project's own without it"
    )
    made.add_argument("--daemon", action="store_true", help="look again and again, until Ctrl-C")
    made.add_argument(
        "--every", type=seconds, metavar="TIME", help="between two looks: 30s, 5min, 1h"
    )
    what = made.add_mutually_exclusive_group()
    what.add_argument("--now", action="store_true", help="begin a turn, whatever there is to see")
    what.add_argument(
        "--abort", action="store_true", help="end the turn that goes on: its run, or its release"
    )
    what.add_argument("--status", action="store_true", help="only say where the loop is")
    made.add_argument(
        "--because", metavar="TEXT", help="why, with --now or --abort; it is kept in the ledger"
    )
    return made


def _abort(loop: Loop, teller: _Teller, because: str, who: str) -> int:
    left = loop.abort(because, who)
    teller.tell()
    if left is not None:
        show.note(f"the turn has ended, and this is left to do: {left}")
    return DONE if left is None else left.exit_code


class _Teller:
    """Prints what is new in what the loop remembers: a line each, or JSON."""

    def __init__(self, opening: Any, project: Project, model: str, *, as_json: bool) -> None:
        self._opening, self._project, self._model = opening, project, model
        self._as_json = as_json
        self._said: tuple[str, ...] = ()

    def kept(self) -> Kept | None:
        """Return what the loop remembers now."""
        kept: Kept | None = self._opening.kept_of(self._project, self._model)
        return kept

    def tell(self) -> None:
        """Say what has changed since the last time."""
        kept = self.kept()
        said = () if kept is None else _said(kept)
        if not said or said == self._said or said[:1] == self._said[:1] == ("quiet:",):
            return  # why nothing is done changes with every look
        self._said = said
        self.say(" ".join(said), kept.turn if kept and said[0] != "quiet:" else None)

    def say(self, text: str, turn: Turn | None = None) -> None:
        """Say one thing, with the time."""
        if self._as_json:
            told = None if turn is None else asdict(turn)
            show.as_line({"time": time.time(), "model": self._model, "text": text, "turn": told})
        else:
            print(f"{to_second(time.time())}  {text}", flush=True)


def _said(kept: Kept) -> tuple[str, ...]:
    turn = kept.turn
    if kept.said and (turn is None or turn.phase == "ended"):
        return ("quiet:", kept.said)
    if turn is None:
        return ()
    return (f"turn {turn.id}", f"{turn.outcome or turn.phase}:", turn.because)


def _once(loop: Loop, teller: _Teller, wish: str | None) -> int:
    """Do all that can be done now; what needs traffic or time goes on with the next call.

    Args:
        loop: of the model.
        teller: says what was done.
        wish: for a turn, which an earlier one that goes on does not serve.
    """
    while True:
        did = loop.tick()
        teller.tell()
        served = wish is None or ((kept := teller.kept()) is not None and kept.served == wish)
        if did not in ("begun", "trained", "releasing") and (did != "ended" or served):
            break
    if did == "busy":
        later = ", and takes the wish up at one of its next looks" if wish else ""
        teller.say(f"another loop is at work{later}")
    kept = teller.kept()
    turn = kept.turn if kept else None
    if did == "waiting":
        trains = turn is not None and turn.phase == "training"
        what = "its run is at work elsewhere" if trains else "a release collects its evidence"
        teller.say(f"{what}; it goes on with the next charkha loop, or ends: charkha loop --abort")
    bad = did == "ended" and turn is not None and turn.outcome not in _GOOD
    return YOU if bad else DONE


def _always(loop: Loop, teller: _Teller, every_s: float) -> int:
    silent = ""
    with _ended_by_signals():
        try:
            while True:
                try:
                    did = loop.tick()
                    teller.tell()
                    silent = ""
                except BackendError as e:  # it is asked again, for as long as it takes
                    did = "waiting"
                    if str(e) != silent:
                        silent = str(e)
                        teller.say(f"waiting: {e}")
                if did not in ("begun", "trained", "releasing"):
                    time.sleep(every_s)
        except _Ended:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # it was heard
            teller.say("the loop ends; what it has begun goes on with the next one")
            return DONE


class _Ended(BaseException):  # as KeyboardInterrupt: nobody's `except Exception` is to keep it
    """A signal asked the loop to end."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended

    before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(kept: Kept | None, model: str, *, as_json: bool) -> int:
    if as_json:
        show.as_json(None if kept is None else kept.as_json())
    elif kept is None:
        print(f"no loop has looked at {model} yet\n  → charkha loop")
    else:
        turn = kept.turn
        print(show.bold(f"{model}: looked at {to_second(kept.looked_at)}"))
        if turn is not None:
            print(f"  turn {turn.id}, begun by {turn.trigger} at {to_second(turn.began_at)}")
            print(f"  {turn.outcome or turn.phase}: {turn.because}")
            if turn.phase == "training" and kept.silent_since is not None:
                print(
                    f"  nothing is heard of it since {to_second(kept.silent_since)}: {kept.silent}"
                )
            if turn.phase != "ended":
                print("  → charkha loop --abort ends it")
        if kept.said:
            print(f"  {kept.said}")
    return DONE
