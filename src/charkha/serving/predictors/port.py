"""Predictor: answer rows with a value for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Row = tuple[object, ...]  # values in the order of the signature, None where there is none
Rows = Sequence[Row]


class Answers(NamedTuple):
    """What a model said, in the order of the rows."""

    values: list[object]  # numbers or labels, as plain Python values
    probabilities: list[list[float]] | None = None  # (rows, classes), in the order of the classes


class Predictor(Protocol):
    """A loaded model. Asked from one thread at a time."""

    form: str
    """What answers: "onnx" or "native"."""

    def predict(self, rows: Rows) -> Answers:
        """Return an answer for each row.

        Args:
            rows: values of the signature's types as `charkha.serving.schema` decodes them: float,
                int, str, bool, a datetime as text in ISO 8601, None; at least one row.

        Raises:
            DataError: the model refuses these rows.
        """
        ...
