"""The process that fills MLflow from a run's journal, while the run goes on or later.

It may be killed at any line and started again: it reads the journal from the first line on, and
every record is written in a way that changes nothing the second time.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import DONE, THEY, WE, YOU, CharkhaError, Unavailable
from charkha.events import RunFinished
from charkha.models.tracker import FAILED, RECORDING, WAITING, TrackingState, marker, read_state
from charkha.pipeline.journal import Line, from_bytes, is_alive, open_lock
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project

_POLL_S = 0.1
_PATIENCE_S = 5.0  # between attempts while the run still goes on
_OBJECTS = 50_000  # between two collections: most come with MLflow's import, and stay
_log = logging.getLogger(__name__)


def follow(folder: Path) -> Iterator[Line]:
    """Yield the lines of a run's journal as they come, until it ends or its process does."""
    with open(folder / "journal.jsonl", "rb") as file:
        rest = b""
        while True:
            living = is_alive(folder)  # asked first: what it wrote before it ended is read below
            *lines, rest = (rest + file.read()).split(b"\n")
            for text in lines:
                if line := _parse(text):
                    yield line
                    if isinstance(line.event, RunFinished):
                        return
            if not lines:
                if not living:
                    return
                time.sleep(_POLL_S)


def _parse(text: bytes) -> Line | None:
    try:
        return from_bytes(text)
    except ValueError:  # cut short by a full disk
        return None


class Tracker:
    """Carries one run to MLflow."""

    def __init__(self, project: Project, run: str) -> None:
        self._project, self._run = project, run
        self._folder = project.state / "runs" / run
        self._state = read_state(project, run)._replace(state=RECORDING, error=None)

    def work(self) -> TrackingState:
        """Try until it is done; give up when the run is over and MLflow still does not answer."""
        while True:
            living = is_alive(self._folder)
            try:
                filling = import_module("charkha.models.filling")  # brings MLflow, 5 s
                filling.fill(self._project, self._run, follow(self._folder), self._reached)
            except Unavailable as e:
                self._save(state=WAITING, error=e.what)
                _log.warning("%s", e)
                if not living:
                    return self._state
                time.sleep(_PATIENCE_S)
            except CharkhaError as e:
                self.fail(str(e))
                _log.exception("this will not get better by trying again")
                return self._state
            else:
                self._save(state="done", error=None)
                with suppress(FileNotFoundError):
                    os.unlink(marker(self._project, self._run))
                return self._state

    def postpone(self, error: str) -> None:
        """Write down what it waits for."""
        self._save(state=WAITING, error=error)

    def fail(self, error: str) -> None:
        """Write down why it ended."""
        self._save(state=FAILED, error=error)

    def _reached(self, **progress: object) -> None:
        self._save(state=RECORDING, error=None, **progress)

    def _save(self, **changes: object) -> None:
        self._state = self._state._replace(**changes)  # type: ignore[arg-type]
        path = self._folder / "mlflow.json"
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(self._state._asdict(), indent=2), encoding="utf-8")
        partial.replace(path)


def main(arguments: list[str]) -> int:
    """Run the tracker: PROJECT_ROOT RUN [--env NAME] [--lock-fd N]."""
    root, run, *options = arguments
    given = dict(zip(options[::2], options[1::2], strict=True))
    project = open_project(Path(root), given.get("--env"))
    lock = _take_lock(project, run, given.get("--lock-fd"))
    if lock is None:
        return DONE  # another one is at it
    with suppress(PermissionError):
        os.setsid()  # Ctrl-C at the run is not for us
    os.nice(10)  # the steps come first
    gc.set_threshold(_OBJECTS)
    sys.path.insert(0, str(project.root))  # a model may be of a class of the project's own
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    tracker = Tracker(project, run)
    try:
        reached = tracker.work()
    except ModuleNotFoundError as e:
        tracker.postpone(f"{e.name} is not installed (pip install 'charkha[mlflow]')")
        return YOU
    except Exception as e:  # noqa: BLE001  # a worker's loop: the reason has to reach mlflow.json
        _log.exception("the tracker failed")
        tracker.fail(f"{type(e).__name__}: {e}")
        return WE
    finally:
        gc.freeze()  # else the end of the process walks through all of MLflow, for over a second
        os.close(lock)
    return DONE if reached.state == "done" else THEY


def _take_lock(project: Project, run: str, inherited: str | None) -> int | None:
    """Return the descriptor of this run's tracker lock, held; None if another process holds it."""
    if inherited is not None:
        os.set_inheritable(int(inherited), False)
        return int(inherited)
    lock = open_lock(project.state / "runs" / run / "tracker.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
