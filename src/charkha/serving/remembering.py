"""Remembering: the lead reads now and then what the ledger says of its model, and shows it as gauges.

The server shows it, and not the command that found it out, because the server is what runs all the
time: `charkha monitor check` lives for seconds, and a file for Prometheus's node exporter would be one
more thing to run. It costs the lead some milliseconds in a thread of its own, and a request nothing.
A ledger in PostgreSQL is read through SQLAlchemy, which is then imported here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from charkha.errors import CharkhaError
from charkha.project import ledger_address
from charkha.serving.logs import event
from charkha.serving.sqlite import SqliteLedger
from charkha.serving.verdicts import ALERT, DRIFT, LOOP, PERFORMANCE, RELEASE, Gauges, gauges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from charkha.project import Project
    from charkha.serving.verdicts import Told

_MOST = {DRIFT: 200, PERFORMANCE: 100, ALERT: 1000, LOOP: 1000}  # the newest decisions of each kind
_FILE = "sqlite:///"
_log = logging.getLogger(__name__)


class Remembering:
    """Reads the ledger of a project. One thread at a time.

    Args:
        project: whose ledger.
        model: that is served.
    """

    def __init__(self, project: Project, model: str) -> None:
        self._project, self._model = project, model
        self._ledger: SqliteLedger | AnyLedger | None = None
        self._next = 0.0
        self.reachable = True
        self.gauges: Gauges = {}  # as last read

    async def look(self) -> bool:
        """Read again if it is time; return whether it was."""
        every_s = self._project.serving.ledger_s
        if not every_s or time.monotonic() < self._next:
            return False
        await asyncio.to_thread(self.read)
        self._next = time.monotonic() + every_s
        return True

    def read(self) -> None:
        """Read now. Where the ledger does not answer, what was read before stays."""
        try:
            self.gauges = self._read()
        except CharkhaError as e:  # it does not answer, or nobody said where it is
            if self.reachable:
                event(_log, logging.WARNING, "ledger-down", f"verdicts are not shown anew: {e}")
            self.reachable = False
        except Exception:  # noqa: BLE001  # a worker's loop: what nobody can read is not shown anew
            _log.exception("the ledger cannot be read")
            self.reachable = False
        else:
            if not self.reachable:
                event(_log, logging.WARNING, "ledger-up", "the ledger answers again")
            self.reachable = True

    def close(self) -> None:
        """Give the connections back."""
        if isinstance(self._ledger, AnyLedger):
            self._ledger.close()
        self._ledger = None

    def _read(self) -> Gauges:
        if self._ledger is None:
            self._ledger = _open(ledger_address(self._project))
        ledger = self._ledger
        decisions = {
            kind: ledger.read(kind, self._model, newest=most) for kind, most in _MOST.items()
        }
        return gauges(self._model, decisions, ledger.state(RELEASE, self._model))


class AnyLedger:
    """A ledger wherever it is, through SQLAlchemy.

    Raises:
        Unavailable: (from every method) the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self._ledger = import_module("charkha.ledger").Ledger(url)  # late: SQLAlchemy
        self._states = import_module("charkha.states").States(url)

    def read(self, kind: str, subject: str, *, newest: int) -> Sequence[Told]:
        """Return the newest decisions, oldest first."""
        found: Sequence[Told] = self._ledger.read(kind, subject, newest=newest)
        return found

    def state(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a state; None where there is none."""
        kept = self._states.read(kind, key)
        return None if kept is None else dict(kept.value)

    def close(self) -> None:
        """Give the connections back."""
        self._ledger.close()
        self._states.close()


def _open(address: str) -> SqliteLedger | AnyLedger:
    if address.startswith(_FILE):
        return SqliteLedger(address.removeprefix(_FILE).partition("?")[0])
    return AnyLedger(address)
