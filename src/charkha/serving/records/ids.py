"""Ids of predictions: UUIDv7 (RFC 9562), which sort by time and cost less than a microsecond.

48 bits are the milliseconds since 1970, the next 12 a counter (section 6.2, method 1), the other 62
are random and drawn anew for each millisecond, so that an id tells nobody the ids of others. The
milliseconds never step back within a process: while the clock does, the counter goes on, and takes
the next millisecond when it is full.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from charkha.errors import DataError

_COUNTS = 4096  # of the counter, in each millisecond
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the end of the year 9999, where Python's calendar ends
_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Ids:
    """Makes ids, each greater than all before. Safe to share between threads.

    Args:
        now: the clock: seconds since 1970.
    """

    __slots__ = ("_bits", "_count", "_head", "_lock", "_ms", "_now", "_random", "_tail")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._random = Random()  # noqa: S311  # unique, and no secret that opens anything
        self._bits = self._random.getrandbits
        self._ms = self._count = 0
        self._head = self._tail = ""
        self._lock = threading.Lock()

    def new(self, n: int) -> list[str]:
        """Return `n` ids."""
        with self._lock:
            ms = int(self._now() * 1000)
            if ms > self._ms:
                self._begin(ms)
            first = self._count
            if first + n > _COUNTS:
                return [self._next() for _ in range(n)]
            self._count = first + n
            head, tail = self._head, self._tail
            return [f"{head}{count:03x}{tail}" for count in range(first, first + n)]

    def _next(self) -> str:
        if self._count == _COUNTS:
            self._begin(self._ms + 1)
        self._count += 1
        return f"{self._head}{self._count - 1:03x}{self._tail}"

    def _begin(self, ms: int) -> None:
        self._ms, self._count = ms, 0
        self._head = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7"
        self._tail = f"-{0x8000 | self._bits(14):x}-{self._bits(48):012x}"

    def part(self) -> None:
        """Become another process: after a fork both would draw the same numbers."""
        self._random.seed()
        self._lock = threading.Lock()  # another thread may have held it
        self._begin(self._ms + 1)


_ids = Ids()
os.register_at_fork(after_in_child=_ids.part)


def new_ids(n: int) -> list[str]:
    """Return `n` new ids, each greater than all before it in this process."""
    return _ids.new(n)


def is_id(text: str) -> bool:
    """Whether this is a UUIDv7 as `new_ids` writes it: 36 characters, hexadecimal in lower case."""
    return _FORM.fullmatch(text) is not None and int(text[:8] + text[9:13], 16) <= _LAST_MS


def time_of(id: str) -> datetime:
    """Return when an id was made, to the millisecond, in UTC.

    Raises:
        DataError: it is no UUIDv7.
    """
    if not is_id(id):
        raise DataError(
            f"{id!r} is no id of a prediction", fix="give a UUIDv7, as the answer has it"
        )
    return _EPOCH + timedelta(milliseconds=int(id[:8] + id[9:13], 16))
