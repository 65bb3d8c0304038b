"""The sealer: has closed logs sealed by a process of its own, now and then, while a server serves."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from charkha.errors import DONE
from charkha.serving.records.places import Address
from charkha.serving.records.replay import LogFile, list_logs, take

_MODULE = "charkha.serving.records.sealing"
_MOST_S = 600.0  # between attempts while one after the other fails
_log = logging.getLogger(__name__)
_monotonic = time.monotonic


def waiting(folder: Path) -> list[LogFile]:
    """Return the logs that nobody writes any more, oldest first."""
    found = []
    for log in list_logs(folder):
        with suppress(FileNotFoundError):
            lock = take(log.path)
            if lock is not None:
                os.close(lock)
                found.append(log)
    return found


class Sealer:
    """Starts the process that seals, at most one at a time. Used from one thread.

    Attributes are for metrics: `runs`, `failures`, and `behind`, the logs that waited at the last
    look.

    Args:
        folder: of the open logs.
        address: of the place for what is sealed.
        every_s: the least time between two looks, and after a failure between two attempts.
    """

    def __init__(self, folder: Path, address: Address, *, every_s: float = 10.0) -> None:
        self._folder, self._every_s = folder, every_s
        self._told = [str(folder), json.dumps(asdict(address))]
        self._process: subprocess.Popen[bytes] | None = None
        self._next = self._in_a_row = 0.0
        self.runs = self.failures = self.behind = 0

    def tick(self) -> None:
        """Look, and start the process where a log waits. Returns at once; call it as you like."""
        now = _monotonic()
        if self._ended() and now >= self._next:
            self._next = now + self._every_s
            self.behind = len(waiting(self._folder))
            if self.behind:
                self._start()

    def finish(self, timeout_s: float) -> bool:
        """Seal what waits, and wait for it; return whether nothing is left. For a server's end."""
        until = _monotonic() + timeout_s
        for _ in range(2):  # what was closed since a process began needs another
            if self._process is None:
                self._start()
            with suppress(subprocess.TimeoutExpired):
                if self._process is not None:
                    self._process.wait(max(0.0, until - _monotonic()))
            if not self._ended():
                return False  # it goes on without us
            if not waiting(self._folder):
                return True
        return False

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own module, our own settings
            [sys.executable, "-m", _MODULE, *self._told],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the server is not for it
        )
        self.runs += 1

    def _ended(self) -> bool:
        """Whether no process is at work; takes note of how the last one ended."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        if code == DONE:
            self._in_a_row = 0
        else:
            self.failures += 1
            self._in_a_row += 1
            pause_s = min(_MOST_S, self._every_s * 2**self._in_a_row)
            self._next = _monotonic() + pause_s
            _log.error("sealing ended with %d; again in %.0f s", code, pause_s)
        return True
