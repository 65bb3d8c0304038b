"""A record as a line of JSON, and back.

A log is lines: a head, then sources (objects) and records (arrays that begin with the number of
their source), each source before its first record. JSON has no word for NaN, for an infinity and for
a text that is no Unicode; where a model answers with one, `{"float": "nan"}` stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from charkha.serving.records.source import Record, Source

FORMAT = 1
Moment = Annotated[int, Meta(ge=0, le=253_402_300_799_999_999)]  # unix µs, until the year 9999
Number = Annotated[int, Meta(ge=0)]
Stored = tuple[
    Number,
    str,
    Moment,
    int,
    str | None,
    dict[str, str | None] | None,
    list[Any],
    Any,
    list[float | None] | None,
]
"""A record as it comes back: the number of its source, then as `Record`."""
StoredTruth = tuple[str, str | bool | int | float, Moment, Moment]
"""A ground truth as it comes back: id, truth, when it was true, when it was received."""

_T = TypeVar("_T")
_encoder = msgspec.json.Encoder()
_value_of = itemgetter(6)


class Head(Struct, kw_only=True):
    """The first line of a log."""

    charkha: str  # "predictions" | "feedback": what the log holds
    format: int


class _Declaration(Struct, kw_only=True):
    source: Number
    about: Source


_heads = msgspec.json.Decoder(Head)
_declarations = msgspec.json.Decoder(_Declaration)
_records = msgspec.json.Decoder(Stored)
_truths = msgspec.json.Decoder(StoredTruth)


def encode_head(kind: str) -> bytes:
    """Return the first line of a log."""
    return _encoder.encode(Head(charkha=kind, format=FORMAT)) + b"\n"


def encode_source(number: int, source: Source) -> bytes:
    """Return the line that declares a source."""
    return _encoder.encode(_Declaration(source=number, about=source)) + b"\n"


def encode_records(number: int, records: Sequence[Record], *, numbers: bool) -> bytes:
    """Return a line for each record.

    Args:
        number: of their source.
        records: what is to be kept.
        numbers: whether all their values are numbers, which can be NaN or infinite.
    """
    try:
        if not numbers or math.isfinite(sum(map(_value_of, records))):
            return _encoder.encode_lines([(number, *record) for record in records])
    except (TypeError, ValueError, OverflowError):
        pass  # something that JSON has no word for: found, and worded, one by one
    return _encoder.encode_lines([_worded(number, record) for record in records])


def encode_truths(truths: Sequence[tuple[object, ...]]) -> bytes:
    """Return a line for each (id, truth, at, received)."""
    return _encoder.encode_lines(truths)


def decode_head(line: bytes) -> Head | None:
    """Return what a log says of itself; None where it says nothing."""
    return _decoded(_heads.decode, line)


def decode_source(line: bytes) -> tuple[int, Source] | None:
    """Return a declared source with its number; None where the line is damaged."""
    said = _decoded(_declarations.decode, line)
    return None if said is None else (said.source, said.about)


def decode_record(line: bytes) -> Stored | None:
    """Return a record; None where the line is damaged."""
    record = _decoded(_records.decode, line)
    if record is not None and b'{"float":' in line:
        return (*record[:6], [_revived(v) for v in record[6]], _revived(record[7]), record[8])
    return record


def decode_truth(line: bytes) -> StoredTruth | None:
    """Return a ground truth; None where the line is damaged."""
    return _decoded(_truths.decode, line)


def _decoded(decode: Callable[[bytes], _T], line: bytes) -> _T | None:
    try:
        return decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _worded(number: int, record: Record) -> tuple[object, ...]:
    *about, shares = record
    if shares is not None:
        shares = [share if math.isfinite(share) else None for share in shares]  # type: ignore[misc]
    return (number, *map(_plain, about), shares)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):  # a class below it, such as numpy's, is unknown to msgspec
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    item = getattr(value, "item", None)  # of a number of numpy's
    return _plain(item() if item is not None else str(value))


def _revived(value: object) -> object:
    if isinstance(value, dict) and value.keys() == {"float"}:
        return float(value["float"])
    return value
