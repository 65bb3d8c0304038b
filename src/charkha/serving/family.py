"""A family: one metric, with its name, kind, labels and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric."""

    name: str  # as it is asked for in PromQL; a histogram without _bucket, _sum and _count
    kind: Literal["counter", "gauge", "histogram", "info"]
    text: str
    labels: tuple[str, ...] = ()
    across: Literal["sum", "max", "min"] = "sum"  # how the values of several workers become one
    bounds: tuple[float, ...] = ()  # upper ones of a histogram's buckets, without infinity;
    # a histogram without them has bounds for each label set, which `Meters.cells` is given

    @property
    def cells(self) -> int:
        """How many numbers one label set has: for a histogram the sum, then each bucket's count."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


VARIANT = ("model", "version", "variant", "role")
VERSION = ("model", "version")
