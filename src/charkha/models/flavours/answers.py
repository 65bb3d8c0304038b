"""What a model returned, made one value for each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from charkha.errors import DataError
from charkha.models.flavours.port import Classes
from charkha.models.predictions import Floats, Predictions


def one_per_row(said: ArrayLike, rows: int) -> NDArray[np.generic]:
    """Return `said` as (rows,).

    Raises:
        DataError: it has another number of answers, or several for each row.
    """
    answers = np.asarray(said)
    if answers.shape == (rows, 1):
        answers = answers[:, 0]
    if answers.shape != (rows,):
        raise DataError(
            f"predict() answered {rows} rows with an array of shape {answers.shape}",
            fix="return one value for each row; register one model for each target",
        )
    return answers


def numbers(answers: NDArray[np.generic]) -> Floats:
    """Return the answers as finite floats.

    Raises:
        DataError: they are no numbers.
    """
    try:
        floats = answers.astype(np.float64)
    except (TypeError, ValueError) as e:
        raise DataError(
            f"predict() returned {answers.tolist()[0]!r}, which is no number",
            fix='give register() task="classification"',
        ) from e
    bad = np.flatnonzero(~np.isfinite(floats))
    if len(bad):
        raise DataError(
            f"the model predicts {floats[bad[0]]:g} for row {bad[0] + 1} "
            f"({len(bad)} of {len(floats)} rows)",
            fix="look at that row, or at what was divided or taken the logarithm of",
        )
    return floats


def labels(answers: NDArray[np.generic]) -> NDArray[np.object_]:
    """Return the answers as Python values, so that they compare and print alike everywhere."""
    made = np.empty(len(answers), dtype=object)
    made[:] = answers.tolist()
    return made


def most_likely(said: ArrayLike, classes: Classes, rows: int) -> Predictions:
    """Return the predictions of probabilities: (rows, k), or (rows,) of the second of two classes.

    Raises:
        DataError: there is not one probability for each row and class.
    """
    shares = np.asarray(said, dtype=np.float64)
    if shares.ndim == 1 and len(classes) == 2:
        shares = np.column_stack([1 - shares, shares])
    if shares.shape != (rows, len(classes)):
        raise DataError(f"{shares.shape} probabilities for {rows} rows of {len(classes)} classes")
    picked = np.empty(len(classes), dtype=object)
    picked[:] = classes
    return Predictions(values=picked[shares.argmax(axis=1)], probabilities=shares, classes=classes)


def spoken(said: ArrayLike, shares: ArrayLike, classes: Classes, rows: int) -> Predictions:
    """Return the labels and probabilities that an ONNX graph gave.

    A booster's graph says 2 for the third class, whatever that is called, and nothing tells such a
    2 from a class called 2. So a label counts only where the two cannot be mixed up, as text or
    where the classes are 0, 1, 2…; elsewhere the likeliest class is taken.

    Raises:
        DataError: there is not one label, or not one probability for each class, for each row.
    """
    likely = most_likely(shares, classes, rows)
    words = labels(one_per_row(said, rows)).tolist()
    own = {label: label for label in classes}  # ONNX says 1 where the label is True
    as_text = all(isinstance(word, str) for word in words)
    if not (as_text or classes == tuple(range(len(classes)))) or any(w not in own for w in words):
        return likely
    values = np.empty(rows, dtype=object)
    values[:] = [own[word] for word in words]
    return Predictions(values=values, probabilities=likely.probabilities, classes=classes)
