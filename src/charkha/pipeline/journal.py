"""A run's own record: one JSON line for each event, appended at once and never changed.

It is the first thing that is written and the only thing a run needs; the tracking server is filled
from it by another process. Whether the run still lives is told by a lock that the kernel takes back
when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from charkha.data.blobs.local import refused
from charkha.errors import NotFound
from charkha.events import KINDS, Event


class Line(NamedTuple):
    """One event and when it was written (seconds since 1970)."""

    at: float
    event: Event


class Journal:
    """Writes the events of one run; a Listener."""

    def __init__(self, runs: Path) -> None:
        self.run = new_id()
        self.folder = runs / self.run
        try:
            os.makedirs(self.folder)
            self._lock = open_lock(self.folder / "lock")
            self._file = os.open(
                self.folder / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
            )
        except OSError as e:
            raise refused(e, str(self.folder)) from e
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __call__(self, event: Event) -> None:
        try:
            os.write(self._file, as_bytes(Line(round(time.time(), 6), event)) + b"\n")
        except OSError as e:
            raise refused(e, str(self.folder / "journal.jsonl")) from e

    def close(self) -> None:
        """Make the record durable and give the lock back."""
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)
        os.close(self._lock)


def open_lock(path: Path | str) -> int:
    """Open a file to be flock'ed; it is not inherited, so a child cannot keep the lock alive."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def read(folder: Path) -> Iterator[Line]:
    """Yield what a run has recorded so far; a line that was cut short by a crash is left out.

    Raises:
        NotFound: there is no such run.
    """
    try:
        data = (folder / "journal.jsonl").read_bytes()
    except FileNotFoundError as e:
        raise NotFound(f"no run {folder.name}", fix="list the runs: charkha runs") from e
    for text in data.split(b"\n"):
        with suppress(ValueError, KeyError, TypeError):
            yield from_bytes(text)


def as_bytes(line: Line) -> bytes:
    """Return an event and its time as JSON."""
    kept = {"at": line.at, "event": type(line.event).__name__, **line.event._asdict()}
    return json.dumps(kept).encode()


def from_bytes(text: bytes) -> Line:
    """Raises: ValueError, KeyError, TypeError where the bytes are no event."""
    kept = json.loads(text)
    at, kind = kept.pop("at"), KINDS[kept.pop("event")]
    return Line(at, kind(**kept))


def is_alive(folder: Path) -> bool:
    """Whether the process that writes this run still exists (on this machine)."""
    return is_locked(folder / "lock")


def is_locked(path: Path) -> bool:
    """Whether a process of this machine holds a lock on this file."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def new_id() -> str:
    """Return an id that sorts by time: `20261123-224501-482-4f2a` (UTC, milliseconds)."""
    return f"{moment(time.time())}-{os.urandom(2).hex()}"


def moment(at: float) -> str:
    """Return how the id of a run begins that began then (seconds since 1970)."""
    second = time.strftime("%Y%m%d-%H%M%S", time.gmtime(at))
    return f"{second}-{int(at * 1000) % 1000:03d}"
