"""JSON as Python clients write it, with NaN and infinities; and how many rows it has, unread."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from charkha.serving.dialects.tables import too_many
from charkha.serving.schema import broken_json, malformed_json, misfit, pointer

NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A text that does not end is one match to the end, or each quote in it would be tried again
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_TEXTS = re.compile(_TEXT, re.DOTALL)
_NOT_A_NUMBER = re.compile(_TEXT + rb"|\bNaN\b|-?\bInfinity\b", re.DOTALL)
_T = TypeVar("_T")


def decode(decoder: Callable[[bytes], _T], body: bytes) -> _T:
    """Return what a body says, with null for NaN and infinities.

    Raises:
        Problem: 400 for what is no JSON, 422 for what the decoder does not expect, with the place.
    """
    try:
        try:
            return decoder(body)
        except msgspec.DecodeError:
            if b"NaN" not in body and b"Infinity" not in body:
                raise
            body = _NOT_A_NUMBER.sub(_as_null, body)
            return decoder(body)
    except msgspec.ValidationError as e:
        what, _, path = str(e).partition(" - at `$")
        parts = filter(None, re.split(r"[.\[\]]+", path.rstrip("`")))
        found = misfit(what.replace("`", "'"), pointer(*parts), None, None)
        raise broken_json(body) or found from e
    except NO_JSON as e:
        raise malformed_json(e) from e


def check_count(body: bytes, most_rows: int, begins: bytes = b"{") -> None:
    """Refuse too many rows, each of which costs all columns once it is decoded.

    Args:
        body: a list of rows.
        most_rows: that are taken.
        begins: with what a row begins, "{" or "[".

    Raises:
        Problem: 413.
    """
    most = most_rows + (begins == b"[")  # the list itself begins so
    if len(body) < 2 * most or body.count(begins) <= most:
        return
    if _TEXTS.sub(b"", body).count(begins) > most:
        raise too_many(most_rows)


def _as_null(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b'"') else b"null"  # in a text they stay
