"""Where one value lies in what a model was trained on: usual, at the edge, beyond it, never seen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np

from charkha.clock import to_second
from charkha.console.stories.story import number
from charkha.data.profiles.profile import Categories, Numbers, Texts

if TYPE_CHECKING:
    from charkha.data.profiles.profile import Column

Where = Literal[
    "usual",
    "edge",
    "out of range",
    "rare",
    "unseen",
    "missing",
    "redacted",
    "wrong type",
    "unknown",
]
UNUSUAL: frozenset[Where] = frozenset(
    {"edge", "out of range", "rare", "unseen", "missing", "wrong type"}
)
_EDGE = 0.01  # of the training rows on one side
_RARE = 0.005  # of the training rows with a label


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One value beside its column's profile."""

    where: Where
    text: str  # in words
    quantile: float | None = None  # part of the training values that are less; half of the equal
    share: float | None = None  # part of the training rows with this label, or that were missing


def place(value: object, column: Column | None, *, redacted: bool = False) -> Placed:
    """Say where a value lies.

    Args:
        value: as the record has it.
        column: its profile; None where there is none.
        redacted: whether a setting hides this column.
    """
    if redacted and value is None:
        return Placed(where="redacted", text="redacted: it was not kept")
    if column is None:
        return Placed(where="unknown", text="no profile to hold it against")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        share = column.missing / column.rows if column.rows else 0.0
        seldom = "never in training" if not column.missing else f"as {percent(share)} of training"
        return Placed(
            where="usual" if share >= _EDGE else "missing", text=f"missing, {seldom}", share=share
        )
    if isinstance(column, Numbers):
        return _number(value, column)
    if isinstance(column, Categories):
        return _label(value, column)
    return _text(value, column)


def percent(part: float) -> str:
    """Return a part of 1 as `12 %`, `0.3 %`."""
    return f"{part * 100:.2g} %" if part < 0.095 else f"{part * 100:.0f} %"


def _number(value: object, column: Numbers) -> Placed:
    given = _as_number(value)
    if given is None:
        return Placed(where="wrong type", text="no number, and training had numbers")
    if not len(column.edges):
        return Placed(where="unseen", text="training had no value here")
    least, most = float(column.edges[0]), float(column.edges[-1])
    told = to_second if column.moments else number
    if given < least:
        text = f"below the least of training, {told(least)}"
        return Placed(where="out of range", text=text, quantile=0.0)
    if given > most:
        text = f"above the greatest of training, {told(most)}"
        return Placed(where="out of range", text=text, quantile=1.0)
    at = int(np.searchsorted(column.edges, given))
    if column.edges[at] == given:  # exact on both sides
        low, high = int(column.below[at]), int(column.upto[at])
    else:  # between two edges; at most 1/2000 of the values lie there
        low, high = int(column.upto[at - 1]), int(column.below[at])
    quantile = (low + high) / 2 / column.known
    below, above = low / column.known, 1 - high / column.known
    edge = (
        below + (high - low) / column.known < _EDGE or above + (high - low) / column.known < _EDGE
    )
    text = f"{percent(below)} of training is less" if below >= 0.5 or not edge else ""
    if edge:
        text = "among the lowest 1 % of training" if quantile < 0.5 else "among the highest 1 %"
    return Placed(where="edge" if edge else "usual", text=text, quantile=round(quantile, 6))


def _label(value: object, column: Categories) -> Placed:
    label = label_of(value)
    if label in column.labels:
        counted = int(column.counts.sum()) + column.other
        share = int(column.counts[column.labels.index(label)]) / counted
        rare = share < _RARE
        text = f"{percent(share)} of training" + (", so it is rare" if rare else "")
        return Placed(where="rare" if rare else "usual", text=text, share=share)
    if column.other:
        text = f"none of the {len(column.labels)} commonest of training"
        return Placed(where="rare", text=text, share=0.0)
    text = f"never seen in training, which had {len(column.labels)} others"
    return Placed(where="unseen", text=text, share=0.0)


def _text(value: object, column: Texts) -> Placed:
    placed = _number(float(len(label_of(value))), column.lengths)
    return Placed(where=placed.where, text=f"its length: {placed.text}", quantile=placed.quantile)


def _as_number(value: object) -> float | None:
    """Return a value as a profile counts it; moments as seconds since 1970."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        return float(value)  # type: ignore[arg-type]  # what has no number raises
    except (TypeError, ValueError):
        return None


def label_of(value: object) -> str:
    """Return a label as a profile has it: 3.0 is 3."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str)
