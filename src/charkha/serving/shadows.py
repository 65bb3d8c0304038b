"""Shadows: a version that gets the rows of others after their answers left, and costs them nothing.

Its rows wait in a backlog of limited size; what comes while that is full is dropped and counted. A
shadow with other columns gets the rows by the columns' names, where each value can become one of
its type without loss.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from charkha.serving.lanes import Ask, Said
from charkha.serving.predictors.port import Answers, Row, Rows

if TYPE_CHECKING:
    from charkha.serving.lanes import Lane
    from charkha.serving.metrics import Meter
    from charkha.serving.predictors.port import Predictor
    from charkha.serving.schema import Column

MOST_REQUESTS = 1000  # that wait
MOST_ROWS = 20_000  # that wait, unless they are those of one request
_SHARE, _REST_S = 0.1, 0.001  # of the time; between two looks at who waits
_COMPLAIN_S = 60.0  # between two lines of the log about a shadow that fails
_log = logging.getLogger(__name__)
_now = time.perf_counter
Convert = Callable[[object], object]


class Backlog:
    """What a shadow has yet to answer. All of it belongs to the event loop.

    Args:
        columns: of the shadow's signature.
        lane: that answers.
        meter: where it is counted what the shadow does not follow, by the reason: `behind` (the
            backlog is full), `columns` (the rows are none of its own), `failed` (it raised).
    """

    def __init__(self, columns: Sequence[Column], lane: Lane, meter: Meter) -> None:
        self._columns, self._lane, self._meter = columns, lane, meter
        self._translations: dict[int, Translation | None] = {}  # by the version that answered
        self._sizes: deque[int] = deque()  # rows of the requests in the lane, and some before them
        self._rows = 0  # their sum

    def take(self, ask: Ask, version: int, columns: Sequence[Column]) -> None:
        """Have the shadow answer the rows too, under the same ids; or drop them, and count that.

        Args:
            ask: answered by another variant.
            version: that answered.
            columns: of its signature.
        """
        waiting = self._lane.waiting
        while len(self._sizes) > waiting:  # a lane works in order: the first ones are done
            self._rows -= self._sizes.popleft()
        count = len(ask.rows)
        if waiting and (waiting >= MOST_REQUESTS or self._rows + count > MOST_ROWS):
            self._meter.lost("behind")
            return
        if version not in self._translations:
            self._translations[version] = translation(columns, self._columns)
        translate = self._translations[version]
        rows = None if translate is None else translate(ask.rows)
        if rows is None:
            self._meter.lost("columns")
            return
        self._sizes.append(count)
        self._rows += count
        self._lane.ask(Followed(ask, rows, self._meter))


class Followed(Ask):
    """A request as its shadow gets it: nobody waits, and its time begins when the answer left."""

    __slots__ = ("_meter", "_taken")

    def __init__(self, ask: Ask, rows: Rows, meter: Meter) -> None:
        self.rows, self.ids, self.at_us = rows, ask.ids, ask.at_us
        self.key, self.entities = ask.key, ask.entities
        self.started = _now()
        self._meter = meter

    def answer(self, said: Said) -> None:
        if isinstance(said, Answers):
            self._meter.answered(len(self.rows), _now() - self.started)
        else:
            self._meter.lost("failed")


Translation = Callable[[Rows], Rows | None]
"""Make rows of one signature those of another; None where one of them has a value that cannot be."""


def translation(given: Sequence[Column], wanted: Sequence[Column]) -> Translation | None:
    """Return what makes rows of the columns `given` rows of the columns `wanted`.

    None where there is no such thing: a column that is required is not given, or is of a type that
    does not become the other's.
    """
    if [_shape(column) for column in given] == [_shape(column) for column in wanted]:
        return lambda rows: rows
    places = {column["name"]: at for at, column in enumerate(given)}
    plan: list[tuple[int | None, Convert | None, bool]] = []
    for column in wanted:
        at, required = places.get(column["name"]), bool(column.get("required", True))
        if at is None:
            if required:
                return None
            plan.append((None, None, False))
            continue
        known, convert = _conversion(given[at]["type"], column["type"])
        if not known:
            return None
        plan.append((at, convert, required))

    def translate(rows: Rows) -> Rows | None:
        made = []
        for row in rows:
            translated = _translated(row, plan)
            if translated is None:
                return None
            made.append(translated)
        return made

    return translate


def _translated(row: Row, plan: Sequence[tuple[int | None, Convert | None, bool]]) -> Row | None:
    values: list[object] = []
    for at, convert, required in plan:
        value = None if at is None else row[at]
        if value is not None and convert is not None:
            value = convert(value)
            if value is None:
                return None
        if value is None and required:
            return None
        values.append(value)
    return tuple(values)


def _shape(column: Column) -> tuple[object, ...]:
    return column["name"], column["type"], bool(column.get("required", True))


def _conversion(given: str, wanted: str) -> tuple[bool, Convert | None]:
    """Return whether values of one type become those of another, and how if they are not the same.

    What converts returns None for a value that the other type cannot hold.
    """
    if given == wanted:
        return True, None
    if (given, wanted) in _CONVERSIONS:
        return True, _CONVERSIONS[given, wanted]
    return False, None


def _float(value: object) -> object:
    return float(value)  # type: ignore[arg-type]  # the signature said that it is an int


def _within(least: float, most: float) -> Convert:
    def within(value: object) -> object:
        return value if least <= value <= most else None  # type: ignore[operator]  # as above

    return within


_LARGEST = 3.4028235e38  # of 32 bits
_CONVERSIONS: dict[tuple[str, str], Convert | None] = {
    ("integer", "long"): None,
    ("long", "integer"): _within(-(2**31), 2**31 - 1),
    ("integer", "double"): _float,
    ("integer", "float"): _float,
    ("long", "double"): _float,
    ("long", "float"): _float,
    ("float", "double"): None,
    ("double", "float"): _within(-_LARGEST, _LARGEST),
    ("datetime", "string"): None,
}


class GivingWay:
    """A Predictor that works a tenth of the time at most while somebody else waits for an answer.

    What it asks for its share is the time on a processor of the thread that calls it, so all that a
    shadow's lane does. A lower priority for that thread would not do: threads take turns at the
    interpreter, and one that has its turn and is not scheduled holds up all the others. With nice 19
    and three busy processes beside it a server stood still for 24 s.

    Args:
        predictor: that answers.
        busy: whether somebody waits.
    """

    def __init__(self, predictor: Predictor, busy: Callable[[], bool]) -> None:
        self.form = predictor.form
        self._predictor, self._busy = predictor, busy
        self._began_s, self._used_s = -inf, 0.0  # at the last batch; of the thread until then

    def predict(self, rows: Rows) -> Answers:
        used_s = time.thread_time()
        until_s = self._began_s + (used_s - self._used_s) / _SHARE
        while self._busy() and _now() < until_s:
            time.sleep(_REST_S)
        self._began_s, self._used_s = _now(), time.thread_time()
        return self._predictor.predict(rows)


class Complaints:
    """Says that a shadow fails: at once, and then once a minute, for it may fail for every row.

    Args:
        name: of the shadow.
        clock: seconds of any origin.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._rows = 0  # since the last time
        self._again = -inf

    def __call__(self, error: Exception, rows: int) -> None:
        """Take note of a batch that failed."""
        self._rows += rows
        if self._clock() < self._again:
            return
        _log.error("shadow %s failed for %d rows", self._name, self._rows, exc_info=error)
        self._rows, self._again = 0, self._clock() + _COMPLAIN_S


if TYPE_CHECKING:

    def _fits(predictor: Predictor) -> Predictor:
        return GivingWay(predictor, lambda: False)
