"""Records as answers and truths that can be scored, and how many of them cannot and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from charkha.data.profiles.columns import is_number, label_of, whole
from charkha.models.evidence import Scored
from charkha.models.held_out import PROBABILITY, probability_of
from charkha.models.metrics import Task
from charkha.models.predictions import Floats, Predictions
from charkha.models.profiled import INPUT, PREDICTION, TRUTH

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Rows to which the model gave an answer that can be scored, with or without a truth."""

    rows: pa.Table  # (n,) with their inputs
    said: Predictions  # (n,)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The rows among them whose truth is known."""

    rows: pa.Table
    scored: Scored
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scored.truth)


def answered(table: pa.Table, task: Task, classes: Sequence[object] | None) -> Answered:
    """Return the rows of records, or of a package's held-out rows, that have an answer."""
    values: NDArray[Any]
    if task == "regression":
        values = floats_of(table[PREDICTION])
        usable = np.isfinite(values)
    else:
        values = _objects(table[PREDICTION])
        usable = _present(values)
    lost = int((~usable).sum())
    kept = table.filter(pa.array(usable))
    said = Predictions(values=values[usable])
    if task == "classification" and classes is not None:
        said = replace(said, classes=tuple(classes), probabilities=_probabilities(kept, classes))
    notices = (f"{_rows(lost)} without a usable prediction, left out",) if lost else ()
    return Answered(rows=kept, said=said, notices=notices)


def labelled(answers: Answered, task: Task) -> Labelled:
    """Return the rows whose truth has come; a truth that is no number, of numbers, is none."""
    if TRUTH not in answers.rows.column_names:
        usable = np.zeros(len(answers.said), dtype=bool)
        truth: NDArray[Any] = np.empty(len(answers.said))
        notices: tuple[str, ...] = ()
    else:
        column = answers.rows[TRUTH]
        if task == "regression":
            truth = floats_of(column)
            usable = np.isfinite(truth)
        else:
            truth = _objects(column)
            usable = _present(truth)
        lost = len(column) - column.null_count - int(usable.sum())
        notices = (f"{_rows(lost)} with a ground truth of no use, left out",) if lost else ()
    scored = Scored(truth=truth[usable], predicted=_taken(answers.said, usable))
    if task == "classification":
        scored = _of_one_kind(scored)
    return Labelled(rows=answers.rows.filter(pa.array(usable)), scored=scored, notices=notices)


def together(one: Scored, other: Scored) -> Scored:
    """Return the rows of both; probabilities only where both have them."""
    mine, its = one.predicted, other.predicted
    shares = None
    if mine.probabilities is not None and its.probabilities is not None:
        shares = np.concatenate([mine.probabilities, its.probabilities])
    said = Predictions(
        values=np.concatenate([mine.values, its.values]),
        probabilities=shares,
        classes=mine.classes,
    )
    return Scored(truth=np.concatenate([one.truth, other.truth]), predicted=said)


def inputs_of(table: pa.Table, ignored: frozenset[str]) -> list[str]:
    """Return the names of the input columns, as the table calls them, without the ignored ones."""
    names = [n for n in table.column_names if n.startswith(INPUT)]
    return [n for n in names if n not in ignored and n.removeprefix(INPUT) not in ignored]


def floats_of(column: pa.ChunkedArray) -> Floats:
    """Return a column's values as numbers, NaN where there is none."""
    array = whole(column)
    if is_number(array.type) or pa.types.is_boolean(array.type):
        numbers = array.cast(pa.float64(), safe=False) if is_number(array.type) else array
        found: Floats = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
        return found
    return np.array([_number(value) for value in array.to_pylist()], dtype=np.float64)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    values = np.empty(len(column), dtype=object)
    values[:] = whole(column).to_pylist()
    return values


def _present(values: NDArray[np.object_]) -> Mask:
    return np.array([v is not None and v == v for v in values.tolist()], dtype=bool)


def _probabilities(table: pa.Table, classes: Sequence[object]) -> Floats | None:
    """Return the probabilities of all classes; None where a row has none."""
    names = [probability_of(label) for label in classes]
    if not table.num_rows or not set(names) <= set(table.column_names):
        return None
    shares = np.stack([floats_of(table[name]) for name in names], axis=1)
    return shares if np.isfinite(shares).all() else None


def has_probabilities(table: pa.Table) -> bool:
    """Whether there is a column of probabilities at all."""
    return any(name.startswith(PROBABILITY) for name in table.column_names)


def _taken(said: Predictions, usable: Mask) -> Predictions:
    shares = None if said.probabilities is None else said.probabilities[usable]
    return replace(said, values=said.values[usable], probabilities=shares)


def _of_one_kind(scored: Scored) -> Scored:
    """Return labels that compare: a truth that came as the text "1" is the class 1.

    Where one is of another kind and of no class, all of them become text, as they have no order.
    """
    classes = scored.predicted.classes or ()
    known = {label_of(label): label for label in classes}
    truth = np.empty(len(scored.truth), dtype=object)
    truth[:] = [known.get(label_of(label), label) for label in scored.truth.tolist()]
    kinds = {isinstance(v, str) for v in (*classes, *truth.tolist(), *scored.predicted.values)}
    if len(kinds) < 2:
        return Scored(truth=truth, predicted=scored.predicted)
    texts = [np.empty(len(truth), dtype=object) for _ in range(2)]
    for made, given in zip(texts, (truth, scored.predicted.values), strict=True):
        made[:] = [label_of(label) for label in given.tolist()]
    said = replace(scored.predicted, values=texts[1], classes=tuple(map(label_of, classes)) or None)
    return Scored(truth=texts[0], predicted=said)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
