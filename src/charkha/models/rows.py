"""Rows with a known target: conformed to a signature, the target apart and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from charkha.errors import DataError
from charkha.models.metrics import Task
from charkha.models.scores import Truth
from charkha.models.signature import Column, conform
from charkha.plugins import find


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a model is given, and what it should answer."""

    inputs: pd.DataFrame  # (n, columns of the signature)
    truth: Truth  # (n,): floats, or labels as Python values

    def table(self, target: str) -> pd.DataFrame:
        """Return both side by side."""
        return self.inputs.assign(**{target: self.truth})

    def sha256(self, target: str) -> str:
        """Return the digest of `table` as Parquet."""
        return hashlib.sha256(find("codecs", "parquet")().encode(self.table(target))).hexdigest()


def split_target(
    table: object, what: str, columns: Sequence[Column], target: str, task: Task
) -> Rows:
    """Split the target off `table` and conform the rest.

    Args:
        table: a DataFrame with the target; columns that the model does not take are left out.
        what: "test" or "train", for the message.
        columns: of the signature.
        target: the column to be predicted.
        task: regression wants finite numbers, classification a label in every row.

    Raises:
        DataError: no table, no rows, no target, a target that is missing in some row, a column
            that is missing or of another type; says which and in which row.
    """
    frame = as_table(table, what)
    if target not in frame.columns:
        raise DataError(
            f"the {what} rows have no column {target!r}, which is to be predicted",
            fix=f"keep {target!r} in the rows that you give to register()",
        )
    try:
        inputs = conform(frame.drop(columns=target), columns).rows
    except DataError as e:
        raise DataError(f"the {what} rows: {e.what}", fix=e.fix) from e
    return Rows(inputs=inputs, truth=_truth(frame[target], what, task))


def as_table(table: object, what: str) -> pd.DataFrame:
    """Return `table` if it is a DataFrame.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(table, pd.DataFrame):
        raise DataError(
            f"the {what} rows are a {type(table).__name__} and no table",
            fix=f"give register() {what}=… as a pandas.DataFrame with the target in it",
        )
    return table


def _truth(values: pd.Series, what: str, task: Task) -> Truth:
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise DataError(
            f"the {what} rows: target {values.name!r} is missing in row {missing[0] + 1} "
            f"({len(missing)} of {len(values)} rows)",
            fix="drop these rows before the split: nobody knows what they should have been",
        )
    if task == "classification":
        labels = np.empty(len(values), dtype=object)
        labels[:] = values.tolist()
        return labels
    try:
        numbers = values.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise DataError(
            f"the {what} rows: target {values.name!r} is no number: {e}",
            fix='set task = "classification" if it is a class',
        ) from e
    infinite = np.flatnonzero(~np.isfinite(numbers))
    if len(infinite):
        raise DataError(
            f"the {what} rows: target {values.name!r} is infinite in row {infinite[0] + 1}",
            fix="drop these rows, or find the division by zero that made them",
        )
    return numbers
