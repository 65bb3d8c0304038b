"""How often the gate's interval holds the truth, and how often it lets an equal model pass.

A nominal 95 % interval of the difference of two RMSEs should hold the true difference in 95 % of
cases. Simulated: errors of two models on the same rows, hard rows being hard for both, with normal
or heavy tails (the scale of each row is log-normal); the champion errs by a tenth more. Beside the
gate's percentile bootstrap stands scipy's BCa on the same errors. Chance alone moves a coverage of
95 % among 600 simulations by ±1.7 points.
"""

from __future__ import annotations

import numpy as np
from measure import options, report
from scipy.stats import bootstrap as scipy_bootstrap

from charkha.models.bootstrap import draw, estimate

ROWS = (50, 200, 600)
TAILS = {"normal": 0.0, "heavy": 1.0}  # standard deviation of the logarithm of a row's scale
WORSE = 1.1  # the champion's errors, as a multiple
RESAMPLES = 1_000


def main() -> None:
    """Simulate, print, write."""
    given = options(__doc__ or "")
    simulations = 60 if given.quick else 600
    figures: dict[str, float] = {}
    print(f"{'errors':8}{'rows':>6}{'percentile':>12}{'BCa':>8}{'equal passes':>14}")
    for tails, spread in TAILS.items():
        for rows in ROWS:
            percentile, bca, passes = coverage(rows, spread, simulations)
            print(f"{tails:8}{rows:6}{percentile:11.1%}{bca:9.1%}{passes:12.1%}")
            name = f"{tails}_{rows}"
            figures[f"{name}_percentile"] = round(percentile, 4)
            figures[f"{name}_bca"] = round(bca, 4)
            figures[f"{name}_equal_passes"] = round(passes, 4)
    report({**figures, "simulations": simulations}, given.json)


def coverage(rows: int, spread: float, simulations: int) -> tuple[float, float, float]:
    """Return how often percentile and BCa hold the truth, and an equal model passes."""
    chance = np.random.default_rng(0)
    truth = (WORSE - 1) * np.exp(spread**2)  # the RMSE of exp(spread·z)·z' is exp(spread²)
    held = [0, 0, 0]
    for seed in range(simulations):
        scale = np.exp(spread * chance.standard_normal(rows))
        candidate = (scale * chance.standard_normal(rows)) ** 2
        equal = (scale * chance.standard_normal(rows)) ** 2
        champion = WORSE**2 * equal
        low, high = percentile(candidate, champion, seed)
        held[0] += low <= truth <= high
        found = scipy_bootstrap(
            (candidate, champion),
            lambda a, b, axis: np.sqrt(b.mean(axis)) - np.sqrt(a.mean(axis)),
            paired=True,
            n_resamples=RESAMPLES,
            rng=seed,
        ).confidence_interval
        held[1] += found.low <= truth <= found.high
        held[2] += percentile(candidate, equal, seed)[0] > 0
    return held[0] / simulations, held[1] / simulations, held[2] / simulations


def percentile(candidate: np.ndarray, champion: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the gate's interval of how much better the candidate is; takes squared errors."""

    def improvement(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        return np.sqrt(weights @ champion / total) - np.sqrt(weights @ candidate / total)

    draws = draw(improvement, len(candidate), resamples=RESAMPLES, seed=seed)
    found = estimate(0.0, draws, 0.95)
    return found.low, found.high


if __name__ == "__main__":
    main()
