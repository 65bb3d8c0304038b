"""Glancing: rows of a variant as they pass, counted against what its version was made from.

The path of a request pays for a list's `append` and no more: once a second all that was put aside is
counted in one NumPy pass, of at most 256 rows, whatever comes in. A part of the rows tells a share as
well as all of them do. Counting in the lane's thread was tried: its answers then waited for Python's
lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from charkha.data.profiles.profile import Categories, Numbers, Profile
from charkha.serving.predictors.port import Answers

if TYPE_CHECKING:
    from charkha.data.profiles.profile import Floats
    from charkha.serving.counts import Cells
    from charkha.serving.lanes import Ask, Said
    from charkha.serving.metrics import Meters, Read
    from charkha.serving.predictors.port import Row

MOST_A_SECOND = 256  # rows
_OF_A_REQUEST = 64  # rows at most
_COLUMNS = 50  # that are counted one by one: each is up to three series
_LABELS = 20
_OTHER = "(other)"
_SECOND_S = 0.9  # the loop's clock may be early
_INPUT, _PREDICTION = "input.", "prediction"  # as models.profiled calls them, which needs pandas
_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_REFERENCE = (0.05, 0.5, 0.95)
_NUMBERS = frozenset({"double", "float", "long", "integer"})
_TEXTS = frozenset({"string", "datetime"})


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The little of a profile that rows are held against as they pass."""

    numbers: tuple[tuple[int, str], ...]  # place in a row and name of each column of numbers
    low: Floats  # (numbers,), the least value of training
    high: Floats  # (numbers,)
    median: Floats  # (numbers,)
    categories: tuple[tuple[int, str, frozenset[object]], ...]  # with the values of training
    others: tuple[tuple[int, str], ...]  # of which it is only said whether they are missing
    shares: dict[tuple[str, str], float]  # (column, what is true): its part in training
    bounds: tuple[float, ...] = ()  # of predictions that are numbers
    quantiles: tuple[tuple[float, float], ...] = ()  # of them: which, and its value
    labels: tuple[tuple[str, float], ...] = ()  # of predictions that are labels, and their shares


def make_reference(
    profile: Profile,
    inputs: Sequence[tuple[str, str]],
    *,
    hidden: Collection[str] = (),
    predictions: bool = True,
) -> Reference:
    """Return what rows of these inputs (names and types, in order) are held against.

    Args:
        profile: of the version.
        inputs: columns beyond the first 50 are not looked at.
        hidden: names of columns that are not to be looked at.
        predictions: whether predictions are.
    """
    numbers: list[tuple[int, str, Numbers]] = []
    categories: list[tuple[int, str, frozenset[object]]] = []
    others: list[tuple[int, str]] = []
    shares: dict[tuple[str, str], float] = {}
    for place, (name, kind) in enumerate(inputs[:_COLUMNS]):
        column = profile.columns.get(f"{_INPUT}{name}")
        if column is None or name in hidden:
            continue
        shares[name, "missing"] = column.missing / max(column.rows, 1)
        if isinstance(column, Numbers) and kind in _NUMBERS and len(column.edges):
            numbers.append((place, name, column))
            shares[name, "out_of_range"] = 0.0
            above = 1 - _at_most_median(column) / column.known
            shares[name, "above_median"] = above * column.known / max(column.rows, 1)
        elif isinstance(column, Categories):
            known = column.labels if kind in _TEXTS else map(json.loads, column.labels)
            categories.append((place, name, frozenset(known)))
            shares[name, "new_category"] = column.other / max(column.rows, 1)
        else:
            others.append((place, name))
    said = profile.columns.get(_PREDICTION) if predictions else None
    spread = said if isinstance(said, Numbers) and len(said.edges) else None
    return Reference(
        numbers=tuple((place, name) for place, name, _ in numbers),
        low=np.array([c.edges[0] for *_, c in numbers], float),
        high=np.array([c.edges[-1] for *_, c in numbers], float),
        median=np.array([c.quantile(0.5) for *_, c in numbers], float),
        categories=tuple(categories),
        others=tuple(others),
        shares=shares,
        bounds=tuple(sorted({spread.quantile(q) for q in _BOUNDS})) if spread else (),
        quantiles=tuple((q, spread.quantile(q)) for q in _REFERENCE) if spread else (),
        labels=_labels(said) if isinstance(said, Categories) else (),
    )


def _at_most_median(column: Numbers) -> int:
    return int(column.upto[np.searchsorted(column.edges, column.quantile(0.5))])


def _labels(said: Categories) -> tuple[tuple[str, float], ...]:
    known = max(said.known, 1)
    shown = [
        (label, int(count) / known)
        for label, count in zip(said.labels[:_LABELS], said.counts.tolist(), strict=False)
    ]
    return (*shown, (_OTHER, max(0.0, 1 - sum(share for _, share in shown))))


class Glance:
    """Looks at the rows of one variant. `take` belongs to the lane's thread, the rest to the loop's.

    Args:
        meters: where it counts.
        reference: of the version.
        labels: model, version, variant and role.
    """

    def __init__(self, meters: Meters, reference: Reference, *, labels: dict[str, str]) -> None:
        self._meters, self._reference, self._labels = meters, reference, labels
        self._aside: list[tuple[Sequence[Row], Sequence[object]]] = []
        self._left, self._filled_at = MOST_A_SECOND, time.monotonic()
        self._examined = 0
        self._watches_inputs = labels["role"] == "live"  # a shadow is asked the same
        about = {name: labels[name] for name in ("model", "variant")}
        self._about = about
        self._cells: dict[tuple[str, str], Cells] = {}
        if self._watches_inputs:
            self._cells = {
                (column, what): meters.cells(
                    "charkha_input_values_total", **about, column=column, **{"is": what}
                )
                for column, what in reference.shares
            }
        self._histogram: Cells | None = None
        if reference.bounds:
            self._histogram = meters.cells("charkha_prediction_value", reference.bounds, **labels)
        self._predicted = {
            label: meters.cells("charkha_predicted_labels_total", **labels, label=label)
            for label, _ in reference.labels
        }
        self._number_columns = [place for place, _ in reference.numbers]
        self._bounds = np.array(reference.bounds)

    def take(self, done: Sequence[tuple[Ask, Said]]) -> None:
        """Put rows of a batch that was answered aside, while there is room in this second."""
        if self._left <= 0:
            return
        for ask, said in done:
            if isinstance(said, Answers):
                rows, values = ask.rows, said.values
                most = min(_OF_A_REQUEST, max(self._left, 1))
                if len(rows) > most:  # from all of it
                    step = -(-len(rows) // most)
                    rows, values = rows[::step], values[::step]
                self._left -= len(rows)
                self._aside.append((rows, values))

    def examined(self) -> int:
        """Count what was put aside; return how many rows were looked at until now.

        To be called each second. A batch that is put aside at the same moment may not be counted.
        """
        aside, self._aside = self._aside, []
        if aside:
            rows = [row for part, _ in aside for row in part]
            self._examined += len(rows)
            self._count(rows, [value for _, part in aside for value in part])
        now = time.monotonic()
        if now - self._filled_at >= _SECOND_S:
            self._left, self._filled_at = MOST_A_SECOND, now
        return self._examined

    def show(self) -> list[int]:
        """Show what is counted, and what it is held against; return what `unwatch` takes."""
        watch, labels = self._meters.watch, self._labels
        version = {name: labels[name] for name in ("model", "version")}
        own = [
            watch("charkha_rows_examined_total", self.examined, **self._about, role=labels["role"])
        ]
        for q, value in self._reference.quantiles:
            read = _constant(value)
            own.append(watch("charkha_prediction_reference", read, **version, share=f"{q:g}"))
        for label, share in self._reference.labels:
            name = "charkha_predicted_label_reference_share"
            own.append(watch(name, _constant(share), **version, label=label))
        for column, what in self._cells:
            share = self._reference.shares[column, what]
            about = {**self._about, "column": column, "is": what}
            own.append(watch("charkha_input_reference_share", _constant(share), **about))
        return own

    def _count(self, rows: list[Row], values: list[object]) -> None:
        if self._cells:
            self._count_inputs(rows)
        if self._histogram is not None:
            numbers = np.array(values, float)
            numbers = numbers[np.isfinite(numbers)]
            at = np.searchsorted(self._bounds, numbers, "left")
            self._histogram[0] += float(numbers.sum())
            for bucket, count in enumerate(np.bincount(at).tolist()):
                self._histogram[1 + bucket] += count
        elif self._predicted:
            for value in values:
                cells = self._predicted.get(_text(value))
                (cells or self._predicted[_OTHER])[0] += 1

    def _count_inputs(self, rows: list[Row]) -> None:
        reference = self._reference
        columns = list(zip(*rows, strict=True))
        if self._number_columns:
            matrix = np.array([columns[place] for place in self._number_columns], float)
            known = np.isfinite(matrix)
            low, high = reference.low[:, None], reference.high[:, None]
            with np.errstate(invalid="ignore"):
                outside = known & ((matrix < low) | (matrix > high))
                above = known & (matrix > reference.median[:, None])
            for what, found in (
                ("missing", ~known),
                ("out_of_range", outside),
                ("above_median", above),
            ):
                for (_, name), count in zip(
                    reference.numbers, found.sum(axis=1).tolist(), strict=True
                ):
                    self._add(name, what, count)
        for place, name, known_values in reference.categories:
            missing = columns[place].count(None)
            strange = sum(value not in known_values for value in columns[place]) - missing
            self._add(name, "missing", missing)
            self._add(name, "new_category", strange)
        for place, name in reference.others:
            self._add(name, "missing", columns[place].count(None))

    def _add(self, column: str, what: str, count: int) -> None:
        if count:
            self._cells[column, what][0] += count


def _text(value: object) -> str:
    """Return a label as data.profiles.columns.label_of does, which needs pyarrow."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str)


def _constant(value: float) -> Read:
    return lambda: value
