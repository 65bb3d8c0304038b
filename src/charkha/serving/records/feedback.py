"""Feedback: what turned out to be true of a prediction, kept as predictions are.

It comes whenever it comes, and as often as somebody sends it: a reader takes one truth for each id,
the one of the latest time, and of those the one that was received last.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from charkha.errors import DataError, Unavailable
from charkha.serving.problems import Problem
from charkha.serving.records.ids import is_id, time_of
from charkha.serving.records.lines import encode_truths
from charkha.serving.records.log import Log
from charkha.serving.schema import parse_json

Truth = bool | int | float | str
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # before it nobody made an id
_MOST_CHARACTERS = 10_000
_AHEAD = timedelta(days=1)  # what a clock may be wrong by
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What is true of one prediction."""

    id: str
    truth: Truth
    at: datetime | None = None  # when it was true; None: when it is received


class FeedbackLog:
    """Keeps ground truths. Safe to share between threads; a child of fork() keeps its own.

    Args:
        folder: of the open logs; on a local disk.
        durability: as of a Recorder.
        segment_bytes: a log of that size is followed by another …
        segment_s: … and one of that age.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Literal["process", "power"] = "process",
        segment_bytes: int = 64 << 20,
        segment_s: float = 3600,
    ) -> None:
        self.log = Log(
            folder,
            "feedback",
            power=durability == "power",
            segment_bytes=segment_bytes,
            segment_s=segment_s,
        )
        self._received_us = 0
        self._counting = threading.Lock()

    def append(self, feedback: Sequence[Feedback]) -> None:
        """Keep the truths, with one write(); what returns is kept.

        Raises:
            Unavailable: they cannot be written.
        """
        first = self._receive(len(feedback))
        rows = [
            (f.id, f.truth, first + n if f.at is None else _unix_us(f.at), first + n)
            for n, f in enumerate(feedback)
        ]
        if rows and not self.log.append(encode_truths(rows), len(rows)):
            raise Unavailable(
                f"feedback cannot be written in {self.log.folder}",
                fix="free some disk space there, and send it again",
            )

    def turn(self) -> None:
        """Let go of a log that is old enough; to be called every now and then."""
        self.log.turn()

    def close(self) -> None:
        """Let go of the log, so that it can be sealed."""
        self.log.close()

    def _receive(self, count: int) -> int:
        """Return the first of `count` moments (unix µs), all later than any before."""
        with self._counting:
            first = max(time.time_ns() // 1000, self._received_us + 1)
            self._received_us = first + count - 1
        return first


class _Given(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    id: str
    ground_truth: bool | int | float | str
    time: str | None = None


_decoder = msgspec.json.Decoder(_Given | list[_Given])
_PLACE = re.compile(r"(.*?)(?: - at `\$(?:\[(\d+)\])?(?:\.(\w+))?.*`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`", re.DOTALL)


def read_feedback_body(body: bytes) -> list[Feedback]:
    """Return what the body of `POST /feedback` says: one object, or a list of them.

    Raises:
        Problem: 400 for what is no JSON, 422 for what is no feedback, with the place.
    """
    try:
        given = _decoder.decode(body)
    except msgspec.ValidationError as e:
        parse_json(body)  # a body that is cut off is no JSON, whatever it says before
        raise _misfit(str(e)) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parse_json(body)
        raise
    single = isinstance(given, _Given)
    rows = [given] if isinstance(given, _Given) else given
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(check(row.id, row.ground_truth, row.time))
        except Wrong as e:
            raise _wrong(e.what, None if single else str(number), e.field) from e
    return found


class Wrong(DataError):
    """One feedback that cannot be taken, and in which of its fields it is wrong."""

    def __init__(self, what: str, field: str) -> None:
        super().__init__(what)
        self.field = field


def check(id: str, truth: object, at: str | datetime | None) -> Feedback:
    """Return one feedback, checked.

    Raises:
        Wrong: the id is no UUIDv7 of our times, the truth none that a model can predict, or the
            time no date.
    """
    id = id.strip().lower()
    if not is_id(id):
        raise Wrong("Expected the id of a prediction, a UUIDv7", "id")
    if not EARLIEST <= time_of(id) <= datetime.now(UTC) + _AHEAD:
        raise Wrong("Expected the id of a prediction; no prediction was made at that time", "id")
    if not isinstance(truth, bool | int | float | str):
        raise Wrong("Expected a number, a text, true or false", "ground_truth")
    if isinstance(truth, float) and not math.isfinite(truth):
        raise Wrong("Expected a finite number", "ground_truth")
    if isinstance(truth, int) and not -(2**63) <= truth < 2**63:
        raise Wrong("Expected a number of at most 64 bits", "ground_truth")
    if isinstance(truth, str):
        _check_text(truth)
    return Feedback(id=id, truth=truth, at=None if at is None else _moment(at))


def _check_text(truth: str) -> None:
    if len(truth) > _MOST_CHARACTERS:
        raise Wrong(f"Expected a text of at most {_MOST_CHARACTERS:,} characters", "ground_truth")
    try:
        truth.encode()
    except UnicodeEncodeError as e:
        raise Wrong("Expected a text in Unicode", "ground_truth") from e


def _moment(at: str | datetime) -> datetime:
    """Return a date or a moment in UTC, in which those without a zone are taken to be."""
    try:
        moment = at if isinstance(at, datetime) else datetime.fromisoformat(at.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise Wrong("Expected a date in ISO 8601, such as 2026-11-24T10:00:00Z", "time") from e
    if moment < _EPOCH:
        raise Wrong("Expected a date after 1970", "time")
    return moment


def _unix_us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _misfit(said: str) -> Problem:
    match = _PLACE.fullmatch(said)
    what, row, field = match.groups() if match else (said, None, None)
    if named := _FIELD.fullmatch(what):
        field = named[1]
    return _wrong(what.replace("`", "'"), row, field)


def _wrong(what: str, row: str | None, field: str | None) -> Problem:
    parts = [part for part in (row, field) if part is not None]
    pointer = "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)
    place = f"feedback {int(row) + 1}: " if row is not None else ""
    about = f"{field}: " if field is not None and field not in what else ""
    return Problem(
        422,
        "invalid-feedback",
        "This is no feedback",
        f"{place}{about}{what}",
        [{"detail": what, "pointer": f"#{pointer}"}],
    )


def from_text(text: str) -> Truth:
    """Return the truth that a cell of a CSV holds: a number, true or false, else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) and _finite(value) else text


def _finite(value: Truth) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
