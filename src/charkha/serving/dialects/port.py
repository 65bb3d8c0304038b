"""Dialect: read the rows out of a body, write the answer into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from charkha.serving.predictors.port import Answers, Rows

Headers = Mapping[bytes, bytes]  # names in lower case
Sent = list[tuple[bytes, bytes]]  # headers of an answer, without its length


class Reading(NamedTuple):
    """What a body held."""

    rows: Rows
    form: object = None  # what the dialect has to remember until it writes the answer


class Said(NamedTuple):
    """What is to be told about the rows of one request."""

    ids: Sequence[str]  # of each row, a UUIDv7; the first is the request's
    answers: Answers


class Dialect(Protocol):
    """One way to ask one model version over HTTP. Shared by all requests; called on the event loop."""

    def read(self, body: bytes, headers: Headers) -> Reading:
        """Return the rows, with every value checked against the signature; at least one row.

        Raises:
            Problem: 400 for what cannot be parsed, 415 for another content type, 422 for rows that
                do not fit, with the place of the first wrong value.
        """
        ...

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        """Return the body of the answer, and headers with its content type."""
        ...
