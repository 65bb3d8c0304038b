"""What a profile says of each column, and what a window of later rows says beside it.

Numbers keep edges with the exact number of rows on both sides of each, so that an atom (many equal
values) stands at an edge and nowhere else. Between two edges lies at most one row in `GRID`, which
bounds what a distance between distributions can miss: Kolmogorov-Smirnov is off by 1 / `GRID`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRID = 2000  # quantiles that are edges
KEPT = 200  # categories of a column that are counted one by one, and shapes of a text

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Kind = Literal["numbers", "moments", "categories", "texts"]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A column of numbers, or of moments as seconds since 1970; `rows` includes missing ones."""

    rows: int
    missing: int  # null, NaN, infinite
    edges: Floats  # (k,), ascending; the first is the least value, the last the greatest
    below: Counts  # (k,), values < edge
    upto: Counts  # (k,), values <= edge
    mean: float
    sd: float
    moments: bool = False

    @property
    def kind(self) -> Kind:
        """What it is in words."""
        return "moments" if self.moments else "numbers"

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing

    def quantile(self, share: float) -> float:
        """Return the value below or at which this share of the values lies; exact on the grid.

        Raises:
            ValueError: there are no values.
        """
        if not len(self.edges):
            raise ValueError("a column without values has no quantiles")
        at = int(np.searchsorted(self.upto, share * self.known - 1e-9))
        return float(self.edges[min(at, len(self.edges) - 1)])


@dataclass(frozen=True, kw_only=True)
class Categories:
    """A column of labels: how often the commonest ones occur, and all others together.

    Where `other` is not 0, every second row is counted; see `charkha.data.profiles.building`.
    """

    rows: int
    missing: int
    labels: tuple[str, ...]  # at most KEPT, the commonest first
    counts: Counts  # (len(labels),)
    other: int  # rows of all other labels; 0 where all are kept

    @property
    def kind(self) -> Kind:
        """What it is in words."""
        return "categories"

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A column of texts that seldom repeat: how long they are and how they are built.

    A text's shape has A for each run of capital letters, a for other letters, 9 for digits, _ for
    space, and - for all else, of whatever script: "Aa_9-9" is "Room 4/12". Counted on rows that are
    spread evenly.
    """

    rows: int
    missing: int
    lengths: Numbers  # in characters
    shapes: Categories

    @property
    def kind(self) -> Kind:
        """What it is in words."""
        return "texts"

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing


Column = Numbers | Categories | Texts


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The columns of the rows that a model was trained on, by name."""

    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, kw_only=True)
class NumbersSeen:
    """A window's numbers at the edges of their profile."""

    rows: int
    missing: int
    wrong: int  # values that are no numbers
    below: Counts  # (k,), values < edge
    upto: Counts  # (k,), values <= edge
    inside: Floats  # (k - 1,), sum of (next edge - value) over the values between two edges
    beneath: float  # sum of (least edge - value) over the values below it
    beyond: float  # sum of (value - greatest edge) over the values above it
    quartiles: tuple[float, float, float] | None  # None where there are no values

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing - self.wrong


@dataclass(frozen=True, kw_only=True)
class CategoriesSeen:
    """A window's labels, counted in the order of their profile."""

    rows: int
    missing: int
    counts: Counts  # (len(labels),)
    unknown: Mapping[str, int]  # label -> rows, of those that the profile does not name

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing

    @property
    def other(self) -> int:
        """Return the rows with labels that the profile does not name."""
        return sum(self.unknown.values())


@dataclass(frozen=True, kw_only=True)
class TextsSeen:
    """A window's texts."""

    rows: int
    missing: int
    lengths: NumbersSeen
    shapes: CategoriesSeen

    @property
    def known(self) -> int:
        """Return the number of values that are there."""
        return self.rows - self.missing


ColumnSeen = NumbersSeen | CategoriesSeen | TextsSeen
