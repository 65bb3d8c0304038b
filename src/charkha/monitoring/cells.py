"""A column of the reference and of a window, counted in the same cells, in ascending order.

The cells of numbers are, in turn, what lies before an edge and what is equal to it; the last cell is
what lies beyond the last edge. What shares a cell counts as equal, which every test below allows for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from charkha.data.profiles.profile import (
    Categories,
    CategoriesSeen,
    Counts,
    Floats,
    Numbers,
    NumbersSeen,
)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """How many rows of each side lie in each cell, missing ones left out."""

    reference: Counts  # (cells,)
    window: Counts  # (cells,)

    @cached_property
    def pooled(self) -> Counts:
        """Both sides together."""
        return self.reference + self.window

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Rows of the reference and of the window."""
        return int(self.reference.sum()), int(self.window.sum())

    @cached_property
    def shares(self) -> tuple[Floats, Floats]:
        """What part of each side's rows lies in each cell."""
        rows, seen = self.sizes
        return self.reference / max(rows, 1), self.window / max(seen, 1)


def of_numbers(profile: Numbers, seen: NumbersSeen) -> Cells:
    """Return 2k + 1 cells for k edges."""
    return Cells(
        reference=_between(profile.below, profile.upto, profile.known),
        window=_between(seen.below, seen.upto, seen.known),
    )


def of_categories(profile: Categories, seen: CategoriesSeen) -> Cells:
    """Return a cell for each kept label, and one for all others."""
    return Cells(
        reference=np.append(profile.counts, profile.other),
        window=np.append(seen.counts, seen.other),
    )


def of_labels_apart(profile: Categories, seen: CategoriesSeen) -> Cells:
    """Return a cell for each label of either side, where all those of the reference are known.

    Taken together, labels that only the window has would look like a change in every column with
    rare labels: that they are not in the reference is what they were chosen by.
    """
    if profile.other:
        return of_categories(profile, seen)
    new = np.array(list(seen.unknown.values()), dtype=np.int64)
    return Cells(
        reference=np.append(profile.counts, np.zeros_like(new)),
        window=np.append(seen.counts, new),
    )


def merged(cells: Cells, starts: Sequence[int]) -> Cells:
    """Return fewer cells: each starts at one of `starts` (ascending, the first is 0)."""
    return Cells(
        reference=np.add.reduceat(cells.reference, starts),
        window=np.add.reduceat(cells.window, starts),
    )


def bins(cells: Cells, count: int) -> Cells:
    """Return at most `count` cells that hold about as many rows of the reference each."""
    rows = cells.sizes[0]
    if rows == 0 or len(cells.reference) <= 1:
        return cells
    ends = np.cumsum(cells.reference)
    wanted = np.arange(1, count) * (rows / count)
    starts = np.unique(np.append(0, np.searchsorted(ends, wanted - 1e-9) + 1))
    return merged(cells, starts[starts < len(cells.reference)].tolist())


def _between(below: Counts, upto: Counts, known: int) -> Counts:
    """Return how many values lie before each edge, on it, and beyond the last."""
    cells = np.zeros(2 * len(below) + 1, dtype=np.int64)
    bounds = np.empty(2 * len(below) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, known
    bounds[1:-1:2], bounds[2:-1:2] = below, upto
    np.subtract(bounds[1:], bounds[:-1], out=cells)
    return cells
