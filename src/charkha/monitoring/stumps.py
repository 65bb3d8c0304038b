"""A small learner of how large an error will be: boosted stumps on binned columns, in NumPy.

Errors are positive and skewed, and what makes them larger multiplies: so the gamma deviance with a log
link, and trees of one split (Friedman 2001). How many of them is chosen by five-fold
cross-validation; where no column says anything it is none, and the mean is all that is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from charkha.data.profiles.columns import is_moment, is_number, label_of, whole
from charkha.models.predictions import Floats
from charkha.monitoring.answers import floats_of

Codes = NDArray[np.int64]  # (n, columns): the bin of each value

_BINS = 16  # of a column, and one more for what is missing
_FOLDS, _ROUNDS, _RATE, _LEAF = 5, 80, 0.15, 20  # a leaf has 20 rows at least


@dataclass(frozen=True, kw_only=True)
class Binning:
    """How one column becomes a whole number from 0 to 16."""

    edges: Floats | None  # of numbers
    labels: dict[str, int]  # of labels; others are the last

    def codes(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the bin of each value."""
        if self.edges is not None:
            values = numbers_or_moments(column)
            found = np.searchsorted(self.edges, values, side="right").astype(np.int64)
            return np.where(np.isfinite(values), found, _BINS)
        texts = (None if v is None else label_of(v) for v in whole(column).to_pylist())
        return np.array(
            [_BINS if t is None else self.labels.get(t, _BINS - 1) for t in texts], np.int64
        )


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A learner of a positive number, and what it is worth."""

    names: tuple[str, ...]
    binnings: tuple[Binning, ...]
    start: float  # logarithm of the mean
    tables: Floats  # (columns, bins): what each bin adds to it
    scale: float  # that makes the mean right on rows that were not learned from
    residuals: Floats  # of rows that were not learned from: true minus expected

    def expect(self, table: pa.Table) -> Floats:
        """Return the expected number for each row."""
        total = np.full(table.num_rows, self.start)
        for name, binning, added in zip(self.names, self.binnings, self.tables, strict=True):
            total += added[binning.codes(table[name])]
        return self.scale * np.exp(total)


def learn(table: pa.Table, names: Sequence[str], losses: Floats) -> Learned:
    """Learn the size of `losses` from columns; the same rows give the same learner.

    Args:
        table: rows.
        names: the columns to learn from.
        losses: one for each row, none negative.
    """
    binnings = tuple(_binning(table[name]) for name in names)
    codes = np.stack([b.codes(table[n]) for b, n in zip(binnings, names, strict=True)], axis=1)
    ordered = np.array([b.edges is not None for b in binnings])
    floor = max(float(losses.mean()) * 1e-9, 1e-300)
    targets = np.maximum(losses, floor)
    folds = np.random.default_rng(0).permutation(len(losses)) % _FOLDS
    paths = np.empty((_ROUNDS + 1, len(losses)))  # logarithms of what rows held out are expected
    for fold in range(_FOLDS):
        out = folds == fold
        paths[:, out] = _boosted(codes[~out], targets[~out], ordered, codes[out])[1]
    deviance = (targets * np.exp(-paths) + paths).mean(axis=1)
    rounds = int(deviance.argmin())
    tables, _ = _boosted(codes, targets, ordered, codes[:0], rounds)
    expected = np.exp(paths[rounds])
    scale = float(losses.mean() / expected.mean())
    return Learned(
        names=tuple(names),
        binnings=binnings,
        start=float(np.log(targets.mean())),
        tables=tables,
        scale=scale,
        residuals=losses - scale * expected,
    )


def _boosted(
    codes: Codes, targets: Floats, ordered: NDArray[np.bool_], others: Codes, rounds: int = _ROUNDS
) -> tuple[Floats, Floats]:
    """Return what each bin adds, and the path of `others` over the rounds: (rounds + 1, n)."""
    columns, bins = codes.shape[1], _BINS + 1
    start = float(np.log(targets.mean()))
    tables = np.zeros((columns, bins))
    path = np.full((rounds + 1, len(others)), start)
    offsets = np.arange(columns) * bins
    flat = (codes + offsets).ravel()
    shape = (columns, bins)
    counts: Floats = np.bincount(flat, None, columns * bins).reshape(shape).astype(np.float64)
    ratios = targets / targets.mean()  # of the truth to what is expected so far
    for at in range(rounds):
        weights = np.repeat(ratios, columns)
        sums: Floats = np.bincount(flat, weights, columns * bins).reshape(shape).astype(np.float64)
        column, inside = _split(counts, sums, ordered)
        if column < 0:
            path[at + 1 :] = path[at]
            break
        added = np.zeros(bins)
        for side in (inside, ~inside):
            mean = sums[column, side].sum() / counts[column, side].sum()
            added[side] = _RATE * np.log(max(mean, 1e-12))
        tables[column] += added
        ratios = ratios * np.exp(-added[codes[:, column]])
        path[at + 1] = path[at] + added[others[:, column]]
    return tables, path


def _split(
    counts: Floats, sums: Floats, ordered: NDArray[np.bool_]
) -> tuple[int, NDArray[np.bool_]]:
    """Return the column and the bins of the split that lowers the deviance most; -1 for none."""
    rows = np.where(ordered[:, None], np.cumsum(counts, axis=1), counts)
    mass = np.where(ordered[:, None], np.cumsum(sums, axis=1), sums)
    all_rows, all_mass = counts.sum(axis=1)[:, None], sums.sum(axis=1)[:, None]
    usable = (rows >= _LEAF) & (all_rows - rows >= _LEAF)
    gain = np.full(rows.shape, -np.inf)
    one, other = rows[usable], (all_rows - rows)[usable]
    means = np.maximum(mass[usable] / one, 1e-12)
    rest = np.maximum((all_mass - mass)[usable] / other, 1e-12)
    gain[usable] = -(one * np.log(means) + other * np.log(rest))
    column, at = divmod(int(gain.argmax()), counts.shape[1])
    if not np.isfinite(gain[column, at]):
        return -1, np.zeros(counts.shape[1], dtype=bool)
    places = np.arange(counts.shape[1])
    return column, places <= at if ordered[column] else places == at


def _binning(column: pa.ChunkedArray) -> Binning:
    array = whole(column)
    if is_number(array.type) or is_moment(array.type) or pa.types.is_null(array.type):
        values = numbers_or_moments(column)
        values = values[np.isfinite(values)]
        inner = np.linspace(0, 1, _BINS + 1)[1:-1]
        edges = np.unique(np.quantile(values, inner)) if len(values) else np.empty(0)
        return Binning(edges=edges, labels={})
    texts = [label_of(v) for v in array.to_pylist() if v is not None]
    labels, counts = np.unique(texts, return_counts=True)
    common = labels[np.lexsort((labels, -counts))][: _BINS - 1]
    return Binning(edges=None, labels={str(label): at for at, label in enumerate(common)})


def numbers_or_moments(column: pa.ChunkedArray) -> Floats:
    """Return numbers, or moments as seconds, NaN where there is none."""
    array = whole(column)
    if is_moment(array.type):
        moments = array.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False)
        seconds: Floats = moments.to_numpy(zero_copy_only=False) * 1e-6
        return seconds
    return floats_of(column)
