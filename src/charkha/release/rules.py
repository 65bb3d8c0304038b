"""What a release is held against: how sure, how much matters, how long; and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Metric = Literal["errors", "latency", "predictions", "loss"]
METRICS: tuple[Metric, ...] = ("errors", "latency", "predictions", "loss")
Kind = Literal["promote", "roll back", "keep collecting"]

# Of the part of `alpha` that loss gets. Capped losses find most; the mean finds what a few rows cost.
MEAN, CAPPED = 0.3, 0.7
# A loss is shown to be no worse with so many times the least number of labels: the bound is
# asymptotic, and of few labels with a long tail the mean and its spread are both too low together.
SHOWN_AFTER = 4
CAP_AT = 0.9  # quantile of the first losses of both arms, above which all count alike


def _weights() -> dict[Metric, float]:
    return {"loss": 0.6, "errors": 0.2, "latency": 0.1, "predictions": 0.1}


def _margins() -> dict[Metric, float]:
    return {"loss": 0.05, "errors": 0.005, "latency": 0.2, "predictions": 0.2}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings of the judge."""

    alpha: float = 0.05  # probability of ever rolling back a version that is no worse
    weights: dict[Metric, float] = field(default_factory=_weights)  # parts of alpha
    margins: dict[Metric, float] = field(default_factory=_margins)  # what is less does not matter
    required: tuple[Metric, ...] = ("errors", "latency")  # to be shown, before a promotion
    quantiles: tuple[float, ...] = (0.5, 0.95, 0.99)  # of latency
    requests: int = 100  # of each arm, in each stage
    labels: int = 100  # of each arm, before losses are compared
    pairs: int = 1000  # that a release is expected to collect
    stages: int = 6  # at most, that a plan has

    def share(self, metric: Metric) -> float:
        """Return the part of `alpha` that a metric has."""
        return self.alpha * self.weights[metric] / sum(self.weights.values())


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One comparison. Positive is worse; `low` and `high` hold at every look, each by itself."""

    name: str  # "errors", "latency p95", "loss", …
    metric: Metric
    baseline: float | None
    candidate: float | None
    difference: float | None  # of a rate in parts of 1; else as a part of the baseline's
    low: float | None  # None: anything
    high: float | None
    margin: float
    alpha: float  # spent on `low`
    counts: tuple[int, int]  # requests, or labels, of baseline and candidate
    worse: bool  # surely, and by more than the margin as far as can be told
    fine: bool  # surely less than the margin

    def said(self) -> str:
        """Return it in words."""
        if self.difference is None:
            return f"{self.name}: nothing to compare yet"
        low = "?" if self.low is None else percent(self.low)
        high = "?" if self.high is None else percent(self.high)
        return (
            f"{self.name} {percent(self.difference)} (between {low} and {high}, "
            f"margin {percent(self.margin)}) of {self.counts[0]:,} and {self.counts[1]:,}"
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says, with its reason and all numbers."""

    kind: Kind
    because: str
    findings: tuple[Finding, ...] = ()
    exposed: bool = False  # the stage's minimum exposure is reached
    stage_s: float = 0.0  # with traffic, in this stage
    total_s: float = 0.0  # with traffic, in all

    def as_json(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def verdict_from_json(told: Mapping[str, Any]) -> Verdict:
    """Return what `Verdict.as_json` told."""
    findings = tuple(Finding(**{**f, "counts": tuple(f["counts"])}) for f in told["findings"])
    return Verdict(**{**told, "findings": findings})


def percent(part: float) -> str:
    """Return `+12.3 %`."""
    return f"{part * 100:+.1f} %"
