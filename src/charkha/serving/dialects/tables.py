"""What tables in requests have in common: how long they may be, and what their answers look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Said

MOST_BYTES = 256 << 20  # of a table once it is no longer compressed, and of all its texts


class Unsafe(Exception):
    """A table that cannot be sized, or that grows by more than its compression."""


def kind_of(labels: Sequence[object] | None) -> type:
    """Return the type of a model's predictions: float, or of all its labels bool, int, float, str."""
    kinds = {float} if labels is None else {type(label) for label in labels}
    return kinds.pop() if len(kinds) == 1 and kinds <= {bool, int, float, str} else str


def as_kind(values: Sequence[Any], kind: type) -> Sequence[Any]:
    """Return predictions as values of the type that `kind_of` told."""
    return [kind(value) for value in values] if kind in (float, str) else values


def answer_columns(
    said: Said, classes: Sequence[str] | None, kind: type
) -> list[tuple[str, Sequence[Any], type]]:
    """Return (name, values, type) of id, prediction and, of a classifier, probability.LABEL.

    Args:
        said: what is to be told.
        classes: names of the labels, in the order of the probabilities.
        kind: as `kind_of` tells it.
    """
    values, shares = said.answers
    columns: list[tuple[str, Sequence[Any], type]] = [
        ("id", said.ids, str),
        ("prediction", as_kind(values, kind), kind),
    ]
    if shares is not None and classes is not None:
        by_class = zip(*shares, strict=True)
        columns += [
            (f"probability.{label}", column, float)
            for label, column in zip(classes, by_class, strict=True)
        ]
    return columns


def wants_json(accept: bytes | None, own: str) -> bool:
    """Whether the answer is to be JSON and not a table like the one that came.

    Args:
        accept: the header.
        own: content type of the table.
    """
    if accept is None:
        return False
    asked = [part.partition(";")[0].strip() for part in accept.decode("latin-1").lower().split(",")]
    return "application/json" in asked and own not in asked


def too_many(most: int) -> Problem:
    """Return what is said of a table with more rows than that."""
    said = f"there are more than {most:,} rows; send them in parts"
    return Problem(413, "too-many-rows", "Too many rows", said)


def too_large(most: int) -> Problem:
    """Return what is said of a table that is larger than that once it is decompressed."""
    said = f"decompressed it is more than {most:,} bytes; send the rows in parts"
    return Problem(413, "too-large", "The table is too large", said)


def malformed(what: str, error: object) -> Problem:
    """Return what is said of a body that cannot be read.

    Args:
        what: it should be.
        error: what is wrong with it.
    """
    said = (str(error).strip().splitlines() or ["it cannot be read"])[0]
    kind = what.split()[0].lower()
    return Problem(400, f"malformed-{kind}", f"The body is no {what}", said[:200])
