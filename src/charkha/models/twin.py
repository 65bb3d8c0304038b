"""Whether a model gets an ONNX twin: converted, asked for the training rows, kept if it agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pandas as pd

from charkha.errors import CharkhaError
from charkha.models.onnxruntime import OnnxModel
from charkha.models.predictions import Floats, Predictions
from charkha.models.signature import Column

# Numbers agree within this share of the spread (standard deviation) of the model's own predictions
# or, where those hardly differ, within the rounding of 32-bit floats; probabilities within this.
TOLERANCE = 1e-4
_ROUNDING = 1e-6

_CONVERTERS = {
    "sklearn": "charkha.models.skl2onnx:conversions",
    "lightgbm": "charkha.models.onnxmltools:lightgbm_conversions",
    "xgboost": "charkha.models.onnxmltools:xgboost_conversions",
}
_NULL_TEXTS = ("", "None", "nan")  # how converters have been seen to write a missing category
# A converter that does not know a model may fail with any of these; the model has no twin then.
_UNCONVERTIBLE = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Twin:
    """The ONNX form of a model, or why there is none."""

    data: bytes | None
    why: str | None  # there is none
    rows: int  # on which the two were compared
    largest_difference: float | None  # between predictions, or probabilities; of the best try
    tolerance: float | None
    null_text: str = ""


def make_twin(
    flavour: str,
    model: object,
    columns: Sequence[Column],
    rows: pd.DataFrame,
    said: Predictions,
) -> Twin:
    """Convert `model` and compare.

    Args:
        flavour: of the model.
        model: as fitted.
        columns: of the signature.
        rows: the training rows, conformed to `columns`.
        said: the model's own predictions for them.
    """
    if flavour not in _CONVERTERS:
        return _none(f"a {flavour} has no converter", len(rows))
    tolerance, gaps, why = allowed(said), [], "it has no conversion"
    for tried in _tries(flavour, model, columns, rows, said):
        if isinstance(tried, str):
            why = tried
            continue
        data, null_text, answers = tried
        gaps.append(difference(said, answers))
        if gaps[-1] <= tolerance:
            return Twin(
                data=data,
                why=None,
                rows=len(rows),
                largest_difference=gaps[-1],
                tolerance=tolerance,
                null_text=null_text,
            )
    if gaps:
        why = f"its predictions differ by up to {min(gaps):.3g}, and {tolerance:.3g} is allowed"
    return _none(why, len(rows), min(gaps, default=None), tolerance)


def allowed(said: Predictions) -> float:
    """Return the largest difference at which a twin still agrees."""
    if said.classes is not None:
        return TOLERANCE
    values = said.values.astype(np.float64)
    return float(TOLERANCE * values.std() + _ROUNDING * np.abs(values).max(initial=0.0))


def difference(said: Predictions, other: Predictions) -> float:
    """Return the largest difference of numbers or probabilities; infinite if a label differs.

    Where a model finds two labels equally probable, either may be named.
    """
    if said.classes is None:
        return _largest(said.values.astype(np.float64) - other.values.astype(np.float64))
    others = np.flatnonzero(said.values != other.values)
    if said.probabilities is None or other.probabilities is None:
        return float("inf") if len(others) else 0.0
    for row in others:
        own, its = (said.classes.index(p.values[row]) for p in (said, other))
        if abs(said.probabilities[row, own] - said.probabilities[row, its]) > TOLERANCE:
            return float("inf")
    return _largest(said.probabilities - other.probabilities)


def _largest(gaps: Floats) -> float:
    return float(np.nan_to_num(np.abs(gaps), nan=np.inf).max(initial=0.0))


def _tries(
    flavour: str,
    model: object,
    columns: Sequence[Column],
    rows: pd.DataFrame,
    said: Predictions,
) -> Iterator[tuple[bytes, str, Predictions] | str]:
    """Yield each twin with its null text and its answers, or the reason why it gave none."""
    for made in _conversions(flavour, model, columns):
        try:
            data = made()
        except _UNCONVERTIBLE as e:
            yield _told(e)
            continue
        for null_text in _NULL_TEXTS if _has_null_text(columns, rows) else _NULL_TEXTS[:1]:
            try:
                twin = OnnxModel(data, null_text=null_text)
                yield data, null_text, twin.predict(rows, said.classes)
            except (CharkhaError, *_UNCONVERTIBLE) as e:  # a renamed input cannot be fed either
                yield _told(e)


def _conversions(
    flavour: str, model: object, columns: Sequence[Column]
) -> Iterator[Callable[[], bytes]]:
    """Yield the ways to convert; where there are none, one that says why."""
    module, _, name = _CONVERTERS[flavour].partition(":")
    try:
        yield from getattr(import_module(module), name)(model, columns)
    except (ModuleNotFoundError, NotImplementedError) as e:
        reason = e

        def unable() -> bytes:
            raise reason

        yield unable


def _has_null_text(columns: Sequence[Column], rows: pd.DataFrame) -> bool:
    return any(c.type == "string" and rows[c.name].isna().any() for c in columns)


def _none(
    why: str, rows: int, nearest: float | None = None, tolerance: float | None = None
) -> Twin:
    return Twin(data=None, why=why, rows=rows, largest_difference=nearest, tolerance=tolerance)


def _told(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    line = line if len(line) <= 200 else line[:199] + "…"
    return f"{type(error).__name__}: {line}"
