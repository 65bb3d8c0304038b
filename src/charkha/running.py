"""What `charkha up` runs in a project: where its parts answer, for as long as it lives.

The supervisor holds a lock and writes `.charkha/up.json`, so every other command finds the platform
whatever its ports are. The kernel frees the lock when the supervisor dies, so a file that was left
behind misleads nobody, also when its pid is somebody else's by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from charkha.clock import to_second
from charkha.errors import UserError

_FILE, _LOCK, _TOKEN = "up.json", "up.lock", "up.token"
_WAIT_S, _LOOK_S = 10.0, 0.1  # for what a killed supervisor left to end


@dataclass(frozen=True, kw_only=True)
class Running:
    """The platform of a project, as its supervisor wrote it down."""

    pid: int  # of the supervisor
    started_at: float  # unix seconds
    environment: str
    model: str
    addresses: Mapping[str, str]  # "server", "admin" and perhaps "mlflow" -> URL
    token: str | None  # of the administration API: a reference, where one was made for this start
    pids: Mapping[str, int]  # part -> process


def find_running(state: Path) -> Running | None:
    """Return the platform that runs in the project with this `.charkha`, None where none does."""
    try:
        lock = os.open(state / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read(state)
    finally:
        os.close(lock)


def _read(state: Path) -> Running | None:
    try:
        found = Running(**json.loads((state / _FILE).read_bytes()))
        os.kill(found.pid, 0)  # the guard of its parts holds the lock a little longer than itself
    except (OSError, ValueError, TypeError):
        return None
    return found


@contextmanager
def claim(state: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Be the one supervisor of a project; yields the lock's descriptor, for the guard to hold too.

    What was written down is removed at the end.

    Args:
        state: the project's `.charkha`; is made.
        waiting: called once, where parts of a supervisor that was killed have to end first.

    Raises:
        UserError: another one runs, or the folder cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise UserError(
            f"{state} cannot be written: {e.strerror}", fix="change its permissions, or its owner"
        ) from e
    try:
        _take(lock, state, waiting)
        try:
            _forget(state)
            yield lock
        finally:
            _forget(state)
    finally:
        os.close(lock)


def _take(lock: int, state: Path, waiting: Callable[[], None]) -> None:
    until, said = time.monotonic() + _WAIT_S, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        found = _read(state)
        if found is not None:
            since = to_second(found.started_at)
            where = ", ".join(found.addresses.values())
            raise UserError(
                f"charkha up runs here already, with pid {found.pid} since {since}: {where}",
                fix=f"Ctrl-C there, or: kill {found.pid}",
            )
        if time.monotonic() > until:
            raise UserError(
                "what another charkha up left here does not end", fix="charkha up, in a minute"
            )
        if not said:
            waiting()
            said = True
        time.sleep(_LOOK_S)


def write_running(state: Path, running: Running) -> None:
    """Write down what runs; only its user can read it."""
    _write(state / _FILE, json.dumps(asdict(running), indent=2))


def keep_token(state: Path, token: str) -> str:
    """Keep a token for as long as this supervisor lives; return the reference to it."""
    _write(state / _TOKEN, token)
    return f"file:{state / _TOKEN}"


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def _forget(state: Path) -> None:
    for name in (_FILE, _TOKEN):
        with suppress(OSError):
            (state / name).unlink()
