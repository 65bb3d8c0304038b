"""Windows as they would be counted from traffic that is drawn here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from charkha.release.evidence import Arm, Evidence, Pairs, Sample, Scales, Window, latency_bin

CAP = 3.0


def sample(values):
    return Sample(
        count=len(values),
        mean=float(np.mean(values)) if len(values) else 0.0,
        squares=float(((values - np.mean(values)) ** 2).sum()) if len(values) else 0.0,
    )


def arm(chance, requests, *, errors=0.0, slower=1.0, shift=0.0, loss=1.0, labels=None):
    """Return an arm of so many requests; latencies and losses are log-normal."""
    latencies = 0.01 * slower * chance.lognormal(0, 0.5, requests)
    values = chance.normal(shift, 1, requests)
    losses = loss * chance.lognormal(0, 0.5, requests if labels is None else labels)
    return Arm(
        requests=requests,
        errors=int(chance.binomial(requests, errors)),
        latency=dict(Counter(latency_bin(s) for s in latencies)),
        predictions=tuple(np.histogram(values, [-9, -2, -1, 0, 1, 2, 9])[0].tolist()),
        loss=sample(losses),
        capped=sample(np.minimum(losses, CAP)),
    )


def pairs(chance, count, *, loss=1.0, noise=0.1):
    base = chance.lognormal(0, 1, count)
    cand = loss * base * chance.lognormal(0, noise, count)

    def made(x, y):
        apart = float(((x - x.mean()) * (y - y.mean())).sum())
        return Pairs(baseline=sample(x), candidate=sample(y), products=apart)

    return {"pairs": made(base, cand), "capped_pairs": made(*np.minimum((base, cand), CAP))}


@pytest.fixture
def chance():
    return np.random.default_rng(7)


@pytest.fixture
def seen(chance):
    """Return `seen(requests, …)`: evidence of one window in which the candidate differs so."""

    def seen(requests=3000, *, of_candidate=None, stage=0, seconds=600.0, **how):
        window = Window(
            stage=stage,
            baseline=arm(chance, requests, errors=how.pop("base_errors", 0.005)),
            candidate=arm(chance, of_candidate or requests, **{"errors": 0.005, **how}),
            first_at=1000.0,
            last_at=1000.0 + seconds,
        )
        return Evidence(windows=(window,), scales=Scales(edges=(-2, -1, 0, 1, 2), cap=CAP))

    return seen
