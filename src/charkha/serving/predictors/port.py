"""Predictor: answer rows, given by columns, with a value for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

Columns = Mapping[str, Sequence[object]]


class Answers(NamedTuple):
    """What a model said, in the order of the rows."""

    values: list[object]  # numbers or labels, as plain Python values
    probabilities: list[dict[str, float]] | None = None  # for each row: label -> probability


class Predictor(Protocol):
    """A loaded model. Asked from one worker thread at a time."""

    form: str
    """What answers: "onnx" or "native"."""

    def predict(self, columns: Columns) -> Answers:
        """Return an answer for each row.

        Args:
            columns: all columns of the signature; values of the signature's types as
                `charkha.serving.schema` decodes them, None where there is none; at least one row.

        Raises:
            DataError: the model refuses these rows.
        """
        ...
