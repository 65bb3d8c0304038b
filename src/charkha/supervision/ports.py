"""Ports that are free: the wanted one or the next, and kept from others who look the same way.

A part takes seconds until it listens. Meanwhile another supervisor of the same user would find the
same port free, so each holds a lock on those that it has chosen.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from types import TracebackType

from charkha.errors import UserError

_TRIES = 100
HIGHEST = 65535  # that a port can be


class Ports:
    """The ports that one supervisor has chosen, until it is closed."""

    def __init__(self) -> None:
        self._locks: dict[int, int] = {}  # port -> descriptor of its lock

    def __enter__(self) -> Ports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lock in self._locks.values():
            os.close(lock)

    def find(self, host: str, wanted: int) -> int:
        """Return a free port of an address: the wanted one, else the next; 0 takes any.

        Raises:
            UserError: this is no address of this machine, or none of a hundred ports is free.
        """
        last = min(wanted + _TRIES, HIGHEST + 1) - 1
        for port in range(wanted, last + 1):
            found = _bound(host, port if wanted else 0)
            if found is not None and found not in self._locks and self._lock(found):
                return found
        raise UserError(
            f"ports {wanted} to {last} of {host} are all taken",
            fix="charkha up --port 0",
        )

    def _lock(self, port: int) -> bool:
        """Keep a port from other supervisors of this user, where locks can be kept at all."""
        folder = os.path.join(tempfile.gettempdir(), f"charkha-{os.getuid()}")
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        try:
            lock = os.open(
                os.path.join(folder, f"port-{port}.lock"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
        except OSError:  # somebody else's folder: then as if nobody else looked
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._locks[port] = lock
        return True


def _bound(host: str, port: int) -> int | None:
    """Return the port if it could be listened on, None if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                return None
            if e.errno == errno.EACCES:
                raise UserError(
                    f"port {port} is only for the administrator",
                    fix="add --port 8000, or above 1023",
                ) from e
            raise UserError(
                f"{host} is no address of this machine: {e}",
                fix='[serving] host = "127.0.0.1" in charkha.toml',
            ) from e
        found: int = trial.getsockname()[1]
        return found
