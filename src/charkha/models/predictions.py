"""What a model said about some rows: one value each, and for classes their probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64] | NDArray[np.object_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers in the order of the rows."""

    values: Values  # (n,): numbers, or labels as Python values
    probabilities: Floats | None = None  # (n, k), columns in the order of `classes`
    classes: tuple[object, ...] | None = None  # k labels, sorted; None for numbers

    def __len__(self) -> int:
        return len(self.values)
