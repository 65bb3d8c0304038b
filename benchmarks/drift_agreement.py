"""Every statistic of a window against its profile beside scipy's on the rows: largest differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats
from scipy.spatial.distance import jensenshannon

from charkha.data.profiles.building import profile_column
from charkha.data.profiles.window import see_column
from charkha.monitoring import cells, effects
from charkha.monitoring.statistics import (
    chi_squared,
    kolmogorov_smirnov,
    rank_test,
    shares_differ,
    spread_test,
)

REFERENCE, WINDOW = 50_000, 2_000
SHAPES = {
    "normal": lambda c, n: c.normal(size=n),
    "lognormal": lambda c, n: c.lognormal(size=n),
    "heavy": lambda c, n: c.standard_t(2, n),
    "zeros": lambda c, n: np.where(c.random(n) < 0.5, 0.0, c.exponential(size=n)),
    "counts": lambda c, n: c.poisson(4, n).astype(np.float64),
}


def agreement() -> dict[str, float]:
    """Print the largest differences over shapes and shifts; return them."""
    chance = np.random.default_rng(5)
    worst: dict[str, float] = {}
    for draw in SHAPES.values():
        for shift in (0.0, 0.05, 0.3):
            pairs = _numbers(draw(chance, REFERENCE), draw(chance, WINDOW) + shift)
            for name, (ours, theirs) in (pairs | _labels(chance, shift)).items():
                worst[name] = max(worst.get(name, 0.0), abs(ours - theirs))
    print("largest difference from scipy (Wasserstein in deviations)")
    for name, difference in worst.items():
        print(f"  {name:28}{difference:.2g}")
    return {f"differs_{name.replace(' ', '_')}": float(f"{d:.3g}") for name, d in worst.items()}


def _numbers(reference: np.ndarray, window: np.ndarray) -> dict[str, tuple[float, float]]:
    profile = profile_column("x", pd.Series(reference))
    seen = see_column(pa.array(window), profile)
    counted = cells.of_numbers(profile, seen)
    ks, theirs = kolmogorov_smirnov(counted), stats.ks_2samp(reference, window, method="asymp")
    rank = rank_test(counted)
    u = stats.mannwhitneyu(window, reference, use_continuity=False, method="asymptotic")
    spread, mood = spread_test(counted), stats.mood(window, reference)
    scale = effects.scale_of(profile)
    return {
        "ks": (ks.value, theirs.statistic),
        "ks p": (ks.p, theirs.pvalue),
        "cliffs delta": (rank.value, 2 * u.statistic / (len(reference) * len(window)) - 1),
        "rank p": (rank.p, u.pvalue),
        "mood z": (spread.value, mood.statistic),
        "mood p": (spread.p, mood.pvalue),
        "wasserstein": (
            effects.wasserstein(profile, seen) / scale,
            stats.wasserstein_distance(reference, window) / scale,
        ),
    }


def _labels(chance: np.random.Generator, shift: float) -> dict[str, tuple[float, float]]:
    base, moved = np.array([0.5, 0.3, 0.15, 0.05]), np.array([-0.5, 0.2, 0.2, 0.1]) * shift
    counted = cells.Cells(
        reference=chance.multinomial(REFERENCE, base),
        window=chance.multinomial(WINDOW, base + moved),
    )
    ours = chi_squared(counted)
    table = [counted.reference, counted.window]
    theirs = stats.chi2_contingency(table, correction=False)
    reference, window = counted.shares
    jeffreys = stats.entropy(reference, window) + stats.entropy(window, reference)
    missing = (int(counted.reference[3]), REFERENCE), (int(counted.window[3]), WINDOW)
    both = [[a, n - a] for a, n in missing]
    return {
        "chi2": (ours.value, theirs.statistic),
        "chi2 p": (ours.p, theirs.pvalue),
        "psi": (effects.psi(counted), jeffreys),
        "jensen shannon": (effects.jensen_shannon(counted), jensenshannon(reference, window, 2)),
        "missing p": (
            shares_differ(*missing).p,
            stats.chi2_contingency(both, correction=False).pvalue,
        ),
    }
