"""How sure a score is: percentile intervals over resampled rows.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13. Two models scored on the same
rows are resampled together, so what makes a row hard for both cancels out of their difference.
Percentile and not BCa, whose acceleration is estimated from the same heavy tails that it has to
correct: on 200 heavy-tailed errors a nominal 95 % covers 91 % (percentile) and 84 % (BCa), see
docs/how-to/gate.md. Rows are taken as independent; repeated measures of one house are not.
"""

from __future__ import annotations

import numpy as np

from charkha.models.predictions import Floats
from charkha.models.scores import Statistic
from charkha.models.verdict import Estimate

_CELLS = 4_000_000  # of one weight matrix: 32 MB


def draw(statistic: Statistic, rows: int, *, resamples: int, seed: int) -> Floats:
    """Return the statistic of each resample of `rows` rows; NaN where it was undefined.

    Two statistics drawn with the same seed and number of rows saw the same resamples.
    """
    rng = np.random.default_rng(seed)
    size = max(1, _CELLS // rows)
    drawn = [
        statistic(_weights(rng, min(size, resamples - done), rows))
        for done in range(0, resamples, size)
    ]
    return np.concatenate(drawn)


def estimate(value: float, draws: Floats, confidence: float) -> Estimate:
    """Return `value` with the central interval of its draws; undefined draws are left out."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def _weights(rng: np.random.Generator, resamples: int, rows: int) -> Floats:
    """Return how often each row was drawn: (resamples, rows), each line summing to `rows`."""
    drawn = rng.integers(0, rows, (resamples, rows))
    drawn += np.arange(resamples)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=resamples * rows)
    return counts.reshape(resamples, rows).astype(np.float64)
