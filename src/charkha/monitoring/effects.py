"""How large a change is, whatever its p-value: in numbers that compare, and in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from charkha.data.profiles.profile import Floats, Numbers, NumbersSeen
from charkha.monitoring.cells import Cells, bins

_NOTABLE = 0.1  # of a deviation, or of the spread: what is worth a word
BINS = 10  # of the reference's rows, for PSI and Jensen-Shannon of numbers


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The sizes of a column's change; each is 0 where nothing has changed."""

    distance: float  # of numbers KS, of labels the total variation; from 0 to 1
    shift_sd: float  # the shift of a normal distribution with the same distance, in deviations
    psi: float  # population stability index, in nats
    jensen_shannon: float  # distance, base 2, from 0 to 1
    wasserstein: float | None = None  # in deviations (`scale_of`); None for labels, or constants


def of_numbers(cells: Cells, distance: float, profile: Numbers, seen: NumbersSeen) -> Effects:
    """Return the sizes for numbers; `distance` is that of Kolmogorov-Smirnov."""
    few = bins(cells, BINS)
    scale = scale_of(profile)
    moved = wasserstein(profile, seen)
    return Effects(
        distance=distance,
        shift_sd=shift_of(distance),
        psi=psi(few),
        jensen_shannon=jensen_shannon(few),
        wasserstein=moved / scale if scale > 0 else None,
    )


def of_labels(cells: Cells) -> Effects:
    """Return the sizes for labels."""
    reference, window = cells.shares
    distance = float(np.abs(reference - window).sum() / 2)
    return Effects(
        distance=distance,
        shift_sd=shift_of(distance),
        psi=psi(cells),
        jensen_shannon=jensen_shannon(cells),
    )


def shift_of(distance: float) -> float:
    """Return by how many deviations a normal distribution moves to be at this distance from itself.

    KS and the total variation of N(0, 1) and N(d, 1) are both 2Φ(d/2) - 1. One scale for numbers
    and labels, which heavy tails and units do not reach.
    """
    return float(2 * ndtri((1 + min(distance, 1.0)) / 2))


def psi(cells: Cells) -> float:
    """Return the population stability index: Kullback-Leibler both ways (Jeffreys 1946).

    Half a row is added to each cell, or an empty one would make it infinite.
    """
    rows, seen = cells.sizes
    if not rows or not seen:
        return 0.0
    used = cells.pooled > 0
    kinds = int(used.sum())
    reference = (cells.reference[used] + 0.5) / (rows + kinds / 2)
    window = (cells.window[used] + 0.5) / (seen + kinds / 2)
    return float(((window - reference) * np.log(window / reference)).sum())


def jensen_shannon(cells: Cells) -> float:
    """Return the Jensen-Shannon distance: the root of the divergence (Endres & Schindelin 2003)."""
    rows, seen = cells.sizes
    if not rows or not seen:
        return 0.0
    reference, window = cells.shares
    middle = (reference + window) / 2
    divergence = (_entropy(reference, middle) + _entropy(window, middle)) / 2
    return math.sqrt(max(divergence, 0.0) / math.log(2))


def wasserstein(profile: Numbers, seen: NumbersSeen) -> float:
    """Return how far a value has to be moved on average, in the column's unit.

    The area between the two cumulated distributions (Vallender 1974). Between two edges both are
    taken as straight; where the reference has nothing there, the window's as one step, at the mean
    of its values: that is exact for whole numbers that became others.
    """
    if not profile.known or not seen.known or not len(profile.edges):
        return 0.0
    after = seen.upto / seen.known - profile.upto / profile.known  # right of each edge
    before = seen.below / seen.known - profile.below / profile.known  # left of each edge
    left, right, width = after[:-1], before[1:], np.diff(profile.edges)
    same_side = left * right >= 0
    total = np.abs(left) + np.abs(right)
    crossing = np.divide(left**2 + right**2, total, out=np.zeros_like(total), where=total > 0)
    straight = np.where(same_side, total, crossing) / 2 * width
    count = seen.below[1:] - seen.upto[:-1]
    to_right = np.divide(seen.inside, count, out=width / 2, where=count > 0)
    stepped = np.abs(left) * (width - to_right) + np.abs(right) * to_right
    flat = (profile.below[1:] == profile.upto[:-1]) & (count > 0)
    area = float(np.where(flat, stepped, straight).sum())
    return area + (seen.beneath + seen.beyond) / seen.known


def scale_of(profile: Numbers) -> float:
    """Return a deviation that outliers do not reach: IQR / 1.349, as a normal column has it.

    Where half of the values are equal, the standard deviation.
    """
    if not profile.known:
        return 0.0
    width = profile.quantile(0.75) - profile.quantile(0.25)
    return width / 1.349 if width > 0 else profile.sd


def directions(
    profile: Numbers, seen: NumbersSeen, write: Callable[[float], str]
) -> dict[str, str]:
    """Say what became of a column of numbers, as each test sees it.

    The rank test sees the median (`median up 12 % (1,480 → 1,655)`), the spread test the width of
    the middle half, KS the larger of both changes.

    Args:
        profile: the reference.
        seen: the window.
        write: how a value is written.
    """
    if seen.quartiles is None or not profile.known:
        return dict.fromkeys(("rank", "spread", "KS"), "no values")
    low, middle, high = seen.quartiles
    was, scale = profile.quantile(0.5), scale_of(profile)
    width, was_width = high - low, profile.quantile(0.75) - profile.quantile(0.25)
    moved = abs(middle - was) > _NOTABLE * scale
    widened = was_width > 0 and abs(width / was_width - 1) > _NOTABLE
    median = _median(profile, was, middle, write)
    spread = f"spread {_side(width - was_width)} {_percent(width, was_width)}" if widened else ""
    other = "shape changed, median and spread about as before"
    return {
        "rank": median if middle != was else other,
        "spread": spread or (median if moved else other),
        "KS": median if moved else spread or other,
    }


def _median(profile: Numbers, was: float, now: float, write: Callable[[float], str]) -> str:
    shown = f"({write(was)} → {write(now)})"
    if profile.moments:
        return f"median {'later' if now > was else 'earlier'} {shown}"
    # a share of the median says something where values are sizes, and not where zero is arbitrary
    size = f" {_percent(now, was)}" if float(profile.edges[0]) >= 0 and was > 0 else ""
    return f"median {_side(now - was)}{size} {shown}"


def _side(difference: float) -> str:
    return "up" if difference > 0 else "down"


def _percent(now: float, was: float) -> str:
    return f"{abs(now / was - 1) * 100:.0f} %"


def _entropy(share: Floats, middle: Floats) -> float:
    used = share > 0
    return float((share[used] * np.log(share[used] / middle[used])).sum())
