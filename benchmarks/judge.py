"""How often the judge rolls back a version that is no worse, and how soon it finds one that is.

Simulated releases: a look after every 80 labelled pairs, 4,000 pairs in all, losses log-normal with a
standard deviation of 1.3 times their mean. Beside the judge stand the rules of others on the same
draws, as their manuals describe them. All bounds are those that `charkha release` uses.
"""

from __future__ import annotations

import sys
import time
from math import log, sqrt

import numpy as np
from measure import options, report
from numpy.typing import NDArray

from charkha.release.evidence import BIN, Arm, Evidence, Sample, Window
from charkha.release.judge import judge
from charkha.release.rules import CAP_AT, CAPPED, MEAN, SHOWN_AFTER, Rules
from charkha.release.sequences import (
    band_radius,
    log_evidence,
    mean_ratio,
    quantile_evidence,
    rate_bounds,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RULES = Rules()
SPREAD = 1.3  # standard deviation of a loss, as a multiple of its mean
PAIRS, EVERY = 4000, 80
LOOKS = np.arange(EVERY, PAIRS + 1, EVERY)
WORSE = 1.2
BASE_ERRORS, BAD_ERRORS = 0.005, 0.03
SIGMA = sqrt(log(1 + SPREAD**2))
ONE_SIDED_95 = 1.645


def main() -> None:
    """Simulate, print, write."""
    given = options(__doc__ or "")
    sims = 100 if given.quick else 1000
    began = time.perf_counter()
    figures: dict[str, float] = {"simulations": sims}
    for part in (
        identical,
        worse_loss,
        few_dear_rows,
        small_share,
        low_traffic,
        late_labels,
        other_kinds,
    ):
        print()
        figures |= part(sims)
    figures["seconds"] = round(time.perf_counter() - began, 1)
    print(f"\n{sims:,} simulated releases a line, {figures['seconds']:g} s")
    report(figures, given.json)


# Losses


def losses(
    chance: np.random.Generator, sims: int, worse: float, correlation: float = 0.0
) -> Floats:
    """Return (2, sims, pairs) losses of mean 1 and `worse`, that correlate so."""
    shared = log(1 + correlation * SPREAD**2) / SIGMA**2  # of their logarithms
    normal = chance.standard_normal((2, sims, PAIRS))
    normal[1] = shared * normal[0] + sqrt(1 - shared**2) * normal[1]
    drawn: Floats = np.exp(SIGMA * normal - SIGMA**2 / 2)
    drawn[1] *= worse
    return drawn


def bounds(arms: Floats, alpha: float, *, paired: bool) -> tuple[Floats, Floats, Floats]:
    """Return the ratio of means with its bounds at every look: (sims, looks) each."""
    base, cand = arms
    count = LOOKS.astype(float)
    means = [np.cumsum(a, axis=1)[:, LOOKS - 1] / count for a in arms]
    squares = [
        np.cumsum(a**2, axis=1)[:, LOOKS - 1] - count * m**2
        for a, m in zip(arms, means, strict=True)
    ]
    products = np.cumsum(base * cand, axis=1)[:, LOOKS - 1] - count * means[0] * means[1]
    counts = np.broadcast_to(count, means[0].shape)[..., None]
    estimate, found = mean_ratio(
        (counts, counts),
        (means[0][..., None], means[1][..., None]),
        (squares[0][..., None], squares[1][..., None]),
        products[..., None] * paired,
        tuned_at=RULES.pairs,
        alphas=(alpha, RULES.alpha),
    )
    return estimate, found.low, found.high


def judged(arms: Floats, *, paired: bool = False) -> dict[str, Flags]:
    """Return at which looks (sims, looks) each test of the loss is sure, and the rule rolls back."""
    share = RULES.share("loss")
    enough = RULES.labels <= LOOKS
    first = arms[:, :, : RULES.labels].transpose(1, 0, 2).reshape(arms.shape[1], -1)
    cap = np.quantile(first, CAP_AT, axis=1)[:, None]
    estimate, low, high = bounds(arms, share * MEAN, paired=paired)
    _, capped, _ = bounds(np.minimum(arms, cap), share * CAPPED, paired=paired)
    mean_sure, capped_sure = enough & (low > 1), enough & (capped > 1)
    matters = estimate > 1 + RULES.margins["loss"]
    _, alone, _ = bounds(arms, share, paired=paired)
    return {
        "mean_alone": enough & (alone > 1) & matters,  # the whole budget of loss
        "loss_mean": mean_sure,
        "loss_capped": capped_sure,
        "loss": (mean_sure | capped_sure) & matters,
        "shown": (SHOWN_AFTER * RULES.labels <= LOOKS) & (high < 1 + RULES.margins["loss"]),
    }


def first_at(flags: Flags) -> Floats:
    """Return after how many pairs each release was rolled back; infinite if never."""
    return np.where(flags.any(axis=1), LOOKS[flags.argmax(axis=1)], np.inf)


def agrees(arms: Floats, flags: Flags) -> bool:
    """Whether the judge itself says of the first releases, after all pairs, what stands in `flags`."""
    said = []
    for base, cand in arms[:, :20].transpose(1, 0, 2):
        first = np.concatenate([base[: RULES.labels], cand[: RULES.labels]])
        cap = np.quantile(first, CAP_AT)
        told = [
            Arm(requests=PAIRS, loss=sample(a), capped=sample(np.minimum(a, cap)))
            for a in (base, cand)
        ]
        window = Window(stage=0, baseline=told[0], candidate=told[1])
        said.append(judge(Evidence(windows=(window,)), RULES).kind == "roll back")
    return said == flags[:20, -1].tolist()


def sample(values: Floats) -> Sample:
    """Return the sums of some losses."""
    squares = float(((values - values.mean()) ** 2).sum())
    return Sample(count=len(values), mean=float(values.mean()), squares=squares)


# Rules of others


def others(arms: Floats) -> dict[str, Flags]:
    """Return at which looks the rules of others roll back."""
    base, cand = arms
    own = [a.reshape(len(a), len(LOOKS), EVERY).mean(axis=2) for a in arms]  # since the last look
    failed = np.cumsum(own[1] > 1.10 * own[0], axis=1)
    count = LOOKS.astype(float)
    means = [np.cumsum(a, axis=1)[:, LOOKS - 1] / count for a in arms]
    errors = [
        np.cumsum(a**2, axis=1)[:, LOOKS - 1] / count - m**2
        for a, m in zip(arms, means, strict=True)
    ]
    z = (means[1] - means[0]) / np.sqrt((errors[0] + errors[1]) / count)
    return {
        "argo": failed > 3,  # failureLimit: 3 are tolerated
        "flagger": failed >= 10,  # threshold: the tenth ends it
        "z_test": z > ONE_SIDED_95,
        "mann_whitney": rank_z(base, cand) > ONE_SIDED_95,
    }


def rank_z(base: Floats, cand: Floats) -> Floats:
    """Return the z of Mann-Whitney at every look, on 256 bins of the logarithm."""
    edges = np.quantile(np.log(base[:50]), np.linspace(0, 1, 257)[1:-1])
    bins = [np.searchsorted(edges, np.log(a)) for a in (base, cand)]
    sims = len(base)
    counts = np.zeros((2, sims, 256))
    found = []
    for end in LOOKS:
        for arm, at in enumerate(bins):
            new = at[:, end - EVERY : end] + 256 * np.arange(sims)[:, None]
            counts[arm] += np.bincount(new.ravel(), minlength=256 * sims).reshape(sims, 256)
        lower = np.cumsum(counts[0], axis=1) - counts[0] / 2
        wins = (counts[1] * lower).sum(axis=1)
        found.append((wins - end**2 / 2) / sqrt(end**2 * (2 * end + 1) / 12))
    return np.stack(found, axis=1)


NAMES = {
    "mean_alone": "the judge's mean alone, without the cap",
    "argo": "Argo Rollouts: 1.10 times, failureLimit 3",
    "flagger": "Flagger: 10 failed checks",
    "z_test": "z-test at every look, p < 0.05",
    "mann_whitney": "Mann-Whitney at every look, p < 0.05",
}

# Scenarios


def identical(sims: int) -> dict[str, float]:
    """Two arms that are the same: whoever rolls back is wrong."""
    chance = np.random.default_rng(1)
    arms = losses(chance, sims, 1.0)
    flags = judged(arms)
    flags["errors"] = error_flags(chance, sims, BASE_ERRORS)
    flags["latency"] = latency_flags(chance, sims, 1.0)
    flags["predictions"] = prediction_flags(chance, sims, 0.0)
    rules = ("errors", "latency", "predictions", "loss")
    flags["together"] = np.logical_or.reduce([flags[name] for name in rules])
    wrong = {name: share(flags[name]) for name in (*rules, "loss_mean", "loss_capped", "together")}
    paired = judged(losses(chance, sims, 1.0, 0.8), paired=True)
    wrong["loss_paired"] = share(paired["loss"])
    print("identical arms, 4,000 labelled pairs, a look every 80: rolled back")
    for name, part in wrong.items():
        print(f"  {name:44}{part:8.1%}")
    found = {f"false_{name}": part for name, part in wrong.items()}
    for name, rule in others(arms).items():
        found[f"false_{name}"] = share(rule)
        print(f"  {NAMES[name]:44}{found[f'false_{name}']:8.1%}")
    found["shown_no_worse"] = share(flags["shown"])
    print(f"  {'(shown to be less than 5 % worse by then)':44}{found['shown_no_worse']:8.1%}")
    return found | too_good(chance, sims)


def too_good(chance: np.random.Generator, sims: int) -> dict[str, float]:
    """A loss that is worse by the margin, and is shown to be less: promoted though it should not be."""
    worse = 1 + RULES.margins["loss"]
    found = {
        "false_shown": share(judged(losses(chance, sims, worse))["shown"]),
        "false_shown_paired": share(judged(losses(chance, sims, worse, 0.8), paired=True)["shown"]),
    }
    print("a loss that is worse by the whole margin, 5 %: shown to be less than that (5 % may be)")
    for name, part in zip(("the judge", "… paired, correlation 0.8"), found.values(), strict=True):
        print(f"  {name:44}{part:8.1%}")
    return found


def worse_loss(sims: int) -> dict[str, float]:
    """A loss that is 20 % higher."""
    chance = np.random.default_rng(2)
    limit = fixed_sample(0.0)
    arms = losses(chance, sims, WORSE)
    print(
        f"+20 % of loss: found by 1,000 and 2,000 pairs, median (one fixed look: {limit:,.0f} pairs)"
    )
    found = {"fixed_sample_pairs": limit}
    own = judged(arms)
    if not agrees(arms, own["loss"]):
        sys.exit("the judge says something else than this benchmark")
    flags = {"judge": own["loss"], "mean_alone": own["mean_alone"], **others(arms)}
    for name, rule in flags.items():
        found |= told(f"worse_{name}", NAMES.get(name, "the judge"), rule)
    limit = fixed_sample(0.8)
    print(f"+20 %, paired losses that correlate by 0.8 (one fixed look: {limit:,.0f} pairs)")
    found["fixed_sample_pairs_paired"] = limit
    paired = judged(losses(chance, sims, WORSE, 0.8), paired=True)["loss"]
    return found | told("worse_paired", "the judge", paired)


def fixed_sample(correlation: float) -> float:
    """Return the pairs that one look at a fixed size needs: one-sided 5 %, power 95 %."""
    variance = SPREAD**2 * (1 + WORSE**2 - 2 * correlation * WORSE)
    return round(variance * (2 * ONE_SIDED_95) ** 2 / (WORSE - 1) ** 2)


def few_dear_rows(sims: int) -> dict[str, float]:
    """20 % more loss that one row in fifty makes alone: only the mean sees it."""
    chance = np.random.default_rng(3)
    arms = losses(chance, sims, 1.0)
    arms[1] *= np.where(chance.random((sims, PAIRS)) < 0.02, 11.0, 1.0)
    print("+20 % of loss, all of it from one row in fifty that costs eleven times as much")
    return told("dear_rows", "the judge", judged(arms)["loss"])


def told(key: str, name: str, flags: Flags) -> dict[str, float]:
    """Print and return which part was found by when, and the median; -1 if most never were."""
    at = first_at(flags)
    found = {
        f"{key}_by_1000": float((at <= 1000).mean()),
        f"{key}_by_2000": float((at <= 2000).mean()),
        f"{key}_by_4000": float((at <= 4000).mean()),
        f"{key}_median": float(np.median(at)) if np.isfinite(np.median(at)) else -1.0,
    }
    one, two, all_, median = found.values()
    print(f"  {name:44}{one:8.1%}{two:8.1%}{all_:8.1%}{median:8,.0f}")
    return {k: round(v, 4) for k, v in found.items()}


def share(flags: Flags) -> float:
    """Return which part of the releases was ever rolled back."""
    return round(float(flags.any(axis=1).mean()), 4)


def small_share(sims: int) -> dict[str, float]:
    """The candidate has a twentieth of the traffic: 4,000 labels against 76,000."""
    chance = np.random.default_rng(7)
    found = {
        "false_loss_small_share": round(float(uneven(chance, sims, 1.0)[0].mean()), 4),
        "false_shown_small_share": round(
            float(uneven(chance, sims, 1 + RULES.margins["loss"])[1].mean()), 4
        ),
    }
    print("the candidate with 5 % of the traffic, 4,000 labels of its own")
    names = ("equal: loss rolls back", "worse by the margin: shown to be less")
    for name, part in zip(names, found.values(), strict=True):
        print(f"  {name:44}{part:8.1%}")
    return found


def uneven(chance: np.random.Generator, sims: int, worse: float) -> Flags:
    """Return which (2, sims) releases are ever rolled back for their loss, or shown to be no worse."""
    size = (19 * EVERY, EVERY)  # since the last look
    cap = np.quantile(np.exp(SIGMA * chance.standard_normal(100_000) - SIGMA**2 / 2), CAP_AT)
    sums = np.zeros(
        (2, 2, 2, sims)
    )  # plain and capped; baseline and candidate; sum, sum of squares
    told = np.zeros((2, sims), bool)
    for look in range(1, len(LOOKS) + 1):
        for arm, factor in enumerate((1.0, worse)):
            drawn = (
                np.exp(SIGMA * chance.standard_normal((sims, size[arm])) - SIGMA**2 / 2) * factor
            )
            for kind, values in enumerate((drawn, np.minimum(drawn, cap))):
                sums[kind, arm] += values.sum(axis=1), (values**2).sum(axis=1)
        count = [np.full((sims, 1), float(look * n)) for n in size]
        ratios = []
        for kind, part in enumerate((MEAN, CAPPED)):
            means = [sums[kind, arm, 0][:, None] / count[arm] for arm in range(2)]
            squares = [
                sums[kind, arm, 1][:, None] - count[arm] * means[arm] ** 2 for arm in range(2)
            ]
            ratios.append(
                mean_ratio(
                    (count[0], count[1]), (means[0], means[1]), (squares[0], squares[1]), 0 * count[0],
                    tuned_at=RULES.pairs, alphas=(RULES.share("loss") * part, RULES.alpha),
                )
            )  # fmt: skip
        (estimate, plain), (_, capped) = ratios
        margin = 1 + RULES.margins["loss"]
        if look * EVERY >= RULES.labels:
            told[0] |= ((plain.low > 1) | (capped.low > 1)) & (estimate > margin)
        if look * EVERY >= SHOWN_AFTER * RULES.labels:
            told[1] |= plain.high < margin
    return told


# Errors


def error_flags(
    chance: np.random.Generator, sims: int, rate: float, looks: NDArray[np.int64] = LOOKS
) -> Flags:
    """Return at which looks (requests of each arm) errors roll the candidate back."""
    new = np.diff(looks, prepend=0)
    base, cand = (
        np.cumsum(chance.binomial(new, r, (sims, len(new))), axis=1) for r in (BASE_ERRORS, rate)
    )
    hits, trials = cand[..., None], (base + cand)[..., None]
    sure = log_evidence(hits, trials, np.zeros_like(hits), more=True) >= -log(RULES.share("errors"))
    return sure & (cand - base > RULES.margins["errors"] * looks)


def low_traffic(sims: int) -> dict[str, float]:
    """12 requests a minute on the candidate, for twelve hours, a look every minute."""
    chance = np.random.default_rng(4)
    minutes = np.arange(12, 12 * 720 + 1, 12)
    found: dict[str, float] = {}
    print("12 requests a minute on each version, 12 hours: rolled back, median minutes")
    for name, rate in (("healthy", BASE_ERRORS), ("bad", BAD_ERRORS)):
        flags = error_flags(chance, sims, rate, minutes)
        at = np.where(flags.any(axis=1), flags.argmax(axis=1) + 1.0, np.inf)
        found[f"errors_{name}"] = round(float(np.isfinite(at).mean()), 4)
        median = float(np.median(at)) if np.isfinite(np.median(at)) else -1.0
        print(
            f"  judge, {rate:.1%} errors (baseline 0.5 %){'':10}{found[f'errors_{name}']:8.1%}{median:8,.0f}"
        )
        if name == "bad":
            found["errors_bad_median_minutes"] = median
            found["errors_bad_difference_median_minutes"] = by_difference(chance, 100)
            print(
                f"  … by the difference of two exact bounds{'':12}"
                f"{found['errors_bad_difference_median_minutes']:14,.0f}"
            )
        failing = chance.binomial(12, rate, (sims, 720)) / 12 > 0.01
        for hours, most in ((1, 5), (1, 10), (12, 10)):
            part = float((failing[:, : hours * 60].sum(axis=1) >= most).mean())
            found[f"flagger_{name}_{hours}h_{most}"] = round(part, 4)
            print(
                f"  Flagger, min 99 %, {most} failed checks in {hours} h, {rate:.1%}{'':4}{part:8.1%}"
            )
    return found


def by_difference(chance: np.random.Generator, sims: int) -> float:
    """Return the median minutes until two bounds of the rates part; looked at every five minutes."""
    minutes = np.arange(5, 721, 5)
    new = np.full((sims, len(minutes)), 60)
    base, cand = (np.cumsum(chance.binomial(new, r), axis=1) for r in (BASE_ERRORS, BAD_ERRORS))
    of = np.broadcast_to(12 * minutes, base.shape)
    alpha = RULES.share("errors") / 2
    parted = rate_bounds(cand, of, alpha=alpha).low > rate_bounds(base, of, alpha=alpha).high
    return float(np.median(np.where(parted.any(axis=1), minutes[parted.argmax(axis=1)], 721)))


# Labels that come late


def late_labels(sims: int) -> dict[str, float]:
    """Labels come 10,000 requests later on average, two in five never, while the level of loss rises."""
    chance = np.random.default_rng(5)
    found: dict[str, float] = {}
    print(
        "labels 10,000 requests late, 40 % never; 10 %, then 50 % on the candidate; losses rise threefold"
    )
    for name, worse in (("equal", 1.0), ("worse", WORSE)):
        flags = np.concatenate(
            [late(chance, min(50, sims - at), worse) for at in range(0, sims, 50)], axis=1
        )
        for rule, rolled in zip(("judge", "mixed"), flags, strict=True):
            found[f"late_{name}_{rule}"] = round(float(rolled.mean()), 4)
            says = "the judge" if rule == "judge" else "the same, stages mixed"
            print(f"  {says}, {'identical' if worse == 1 else '+20 %'}{'':20}{rolled.mean():8.1%}")
    return found


def late(chance: np.random.Generator, sims: int, worse: float) -> Flags:
    """Return whether (2, sims) releases are rolled back: by stages, and with stages mixed."""
    requests, delay = 24_000, 10_000
    at = np.arange(requests)
    second = at >= 6_000
    candidate = chance.random((sims, requests)) < np.where(second, 0.5, 0.1)
    loss = np.exp(SIGMA * chance.standard_normal((sims, requests)) - SIGMA**2 / 2)
    loss *= (1 + 2 * at / requests) * np.where(candidate, worse, 1.0)
    comes = at + chance.exponential(delay, (sims, requests))
    comes[chance.random((sims, requests)) < 0.4] = np.inf
    rolled = np.zeros((2, sims), bool)
    for look in range(1_000, 40_001, 1_000):
        known = comes <= look
        for rule, strata in enumerate(([~second, second], [np.ones(requests, bool)])):
            rolled[rule] |= rolls_back(loss, candidate, known, strata)
    return rolled


def rolls_back(loss: Floats, candidate: Flags, known: Flags, strata: list[Flags]) -> Flags:
    """Return which releases (sims,) the mean of what is known rolls back, compared within strata."""
    sums = []
    for arm in (~candidate, candidate):
        taken = [known & arm & stratum for stratum in strata]
        count = np.stack([t.sum(axis=1) for t in taken], axis=-1).astype(float)
        mean = np.stack([(loss * t).sum(axis=1) for t in taken], axis=-1) / np.maximum(count, 1)
        square = np.stack([(loss**2 * t).sum(axis=1) for t in taken], axis=-1) - count * mean**2
        sums.append((count, mean, square))
    (n1, m1, s1), (n2, m2, s2) = sums
    estimate, found = mean_ratio(
        (n1, n2), (m1, m2), (s1, s2), 0 * n1,
        tuned_at=RULES.pairs, alphas=(RULES.share("loss") * MEAN, RULES.alpha),
    )  # fmt: skip
    enough = np.minimum(n1.sum(axis=-1), n2.sum(axis=-1)) >= RULES.labels
    with np.errstate(invalid="ignore"):
        return enough & (found.low > 1) & (estimate > 1 + RULES.margins["loss"])


# Latency and predictions


def latency_flags(chance: np.random.Generator, sims: int, slower: float) -> Flags:
    """Return at which looks latencies roll back; only where the estimate is above the margin is asked."""
    bins, spread = 320, 0.5
    counts = np.zeros((2, sims, bins))
    alpha = RULES.share("latency") / len(RULES.quantiles)
    flags = np.zeros((sims, len(LOOKS)), bool)
    for look in range(len(LOOKS)):
        for arm, factor in enumerate((1.0, slower)):
            values = spread * chance.standard_normal((sims, EVERY)) + log(factor)
            at = np.clip((values / log(BIN)).astype(int) + bins // 2, 0, bins - 1)
            flat = (at + bins * np.arange(sims)[:, None]).ravel()
            counts[arm] += np.bincount(flat, minlength=bins * sims).reshape(sims, bins)
        below = np.cumsum(counts, axis=2) / LOOKS[look]
        for quantile in RULES.quantiles:
            at = (below < quantile).sum(axis=2)
            asked = BIN ** (at[1] - at[0]) > 1 + RULES.margins["latency"]
            asked &= ~flags.any(axis=1)
            if asked.any():
                pair = (counts[0, asked], counts[1, asked])
                found = quantile_evidence(pair, quantile, np.array([0]), slower=True)[:, 0]
                flags[np.flatnonzero(asked)[found >= -log(alpha)], look] = True
    return flags


def prediction_flags(chance: np.random.Generator, sims: int, shift: float) -> Flags:
    """Return at which looks predictions roll back; they are normal, the candidate's moved by so much."""
    edges = np.linspace(-2, 2, 21)
    base = chance.standard_normal((sims, PAIRS))
    cand = chance.standard_normal((sims, PAIRS)) + shift
    radius = 2 * band_radius(
        LOOKS, starts_at=RULES.requests, alpha=RULES.share("predictions") / 2 / RULES.stages
    )
    gap = np.zeros((sims, len(LOOKS)))
    for edge in edges:
        apart = np.cumsum((base < edge).astype(float) - (cand < edge), axis=1)[:, LOOKS - 1]
        gap = np.maximum(gap, np.abs(apart) / LOOKS)
    return gap - radius > RULES.margins["predictions"]


def other_kinds(sims: int) -> dict[str, float]:
    """A slower candidate, and one that predicts otherwise."""
    chance = np.random.default_rng(6)
    found: dict[str, float] = {}
    print("found by 1,000, 2,000 and 4,000 requests of each version, median")
    found |= told("slower", "latency 1.4 times", latency_flags(chance, sims, 1.4))
    found |= told(
        "moved", "predictions moved by 2 standard deviations", prediction_flags(chance, sims, 2.0)
    )
    return found


if __name__ == "__main__":
    main()
