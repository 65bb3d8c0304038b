"""Several p-values made one, and many of them held against one rate of false alarms.

A column's tests are combined by weighted Bonferroni: p = min(p_i / w_i), where the weights sum to
one. It holds under any dependence, and the tests of one column depend on each other by design;
Fisher's method would take them for independent, and Cauchy's (Liu & Xie 2020) holds in the limit
only. Columns are corrected by Holm (1979), which holds under any dependence too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def combined(weighted: Sequence[tuple[float, float]]) -> float:
    """Return one p-value of (p, weight) pairs; the weights sum to 1 at most."""
    return min([1.0, *(p / weight for p, weight in weighted)])


def holm(p_values: Mapping[str, float]) -> dict[str, tuple[float, int]]:
    """Return for each name its adjusted p-value, and the number that its own was multiplied by.

    Rejecting where the adjusted one is at most alpha errs with a probability of alpha at most, for
    all names together.
    """
    adjusted: dict[str, tuple[float, int]] = {}
    worst = 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        factor = len(p_values) - place
        worst = max(worst, min(1.0, p * factor))
        adjusted[name] = (worst, factor)
    return adjusted
