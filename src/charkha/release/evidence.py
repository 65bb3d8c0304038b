"""Evidence: what two versions did in the same windows of time, as sums that can be added up.

A window is a stretch in which nobody changed the shares, so that both arms saw the same traffic. Windows
are never mixed: the judge compares within each, and adds up what it found. Adding is exact, so a
controller that was killed goes on with what it had, or counts again from the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

BIN = 1.02  # upper over lower end of a bin of latencies
_FIRST_S = 1e-4  # what is faster is in bin 0
MOST_BINS = 816  # up to 1,000 s


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Numbers as their count, mean, and sum of squared distances from it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Sample) -> Sample:
        """Add, as Chan, Golub & LeVeque (1983) do, without losing digits."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        part = other.count / count
        return Sample(
            count=count,
            mean=self.mean + apart * part,
            squares=self.squares + other.squares + apart**2 * self.count * part,
        )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Losses of both versions for the same requests."""

    baseline: Sample = Sample()
    candidate: Sample = Sample()
    products: float = 0.0  # sum of the products of their distances from their means

    def __add__(self, other: Pairs) -> Pairs:
        count = self.baseline.count + other.baseline.count
        part = other.baseline.count / count if count else 0.0
        apart = (other.baseline.mean - self.baseline.mean) * (
            other.candidate.mean - self.candidate.mean
        )
        return Pairs(
            baseline=self.baseline + other.baseline,
            candidate=self.candidate + other.candidate,
            products=self.products + other.products + apart * self.baseline.count * part,
        )


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one version did in a window."""

    requests: int = 0  # those that failed, too
    errors: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)  # bin -> answers
    predictions: tuple[int, ...] = ()  # in each bin, or of each class
    loss: Sample = Sample()  # of the requests whose ground truth is there
    capped: Sample = Sample()  # the same, none above the cap

    def __add__(self, other: Arm) -> Arm:
        return Arm(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            latency=_added(self.latency, other.latency),
            predictions=_summed(self.predictions, other.predictions),
            loss=self.loss + other.loss,
            capped=self.capped + other.capped,
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """Both arms while the shares stayed the same; `pairs` where one shadowed the other."""

    stage: int  # of the plan
    paired: bool = False  # the candidate is a shadow, or the baseline is
    baseline: Arm = Arm()
    candidate: Arm = Arm()
    pairs: Pairs = Pairs()
    capped_pairs: Pairs = Pairs()
    first_at: float | None = None  # unix seconds, of the candidate's requests
    last_at: float | None = None
    idle_s: float = 0.0  # in between, without requests

    def __add__(self, other: Window) -> Window:
        """Add what was seen later, or earlier, of the same window."""
        if (self.stage, self.paired) != (other.stage, other.paired):
            raise ValueError("two windows are not one")
        return Window(
            stage=self.stage,
            paired=self.paired,
            baseline=self.baseline + other.baseline,
            candidate=self.candidate + other.candidate,
            pairs=self.pairs + other.pairs,
            capped_pairs=self.capped_pairs + other.capped_pairs,
            first_at=_least(self.first_at, other.first_at),
            last_at=_most(self.last_at, other.last_at),
            idle_s=self.idle_s + other.idle_s,
        )

    @property
    def lasted_s(self) -> float:
        """Seconds from the candidate's first request to its last one, without nights and breaks."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return self.last_at - self.first_at - self.idle_s


@dataclass(frozen=True, kw_only=True)
class Scales:
    """How predictions are binned and losses capped; set once, from both arms together."""

    edges: tuple[float, ...] = ()  # between bins of predictions that are numbers
    classes: tuple[str, ...] = ()  # of predictions that are labels
    cap: float = math.inf  # of a loss

    @property
    def bins(self) -> int:
        return len(self.classes) + 1 if self.classes else len(self.edges) + 1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a release has seen, a window for each stage of its plan."""

    windows: tuple[Window, ...] = ()
    scales: Scales = Scales()

    def __add__(self, other: Evidence) -> Evidence:
        """Add evidence on the same scales; windows of one stage become one."""
        if self.windows and other.windows and self.scales != other.scales:
            raise ValueError("evidence on other scales cannot be added")
        known = {(w.stage, w.paired): w for w in self.windows}
        for window in other.windows:
            key = (window.stage, window.paired)
            known[key] = known[key] + window if key in known else window
        scales = self.scales if self.windows else other.scales
        return Evidence(windows=tuple(known[key] for key in sorted(known)), scales=scales)

    def window(self, stage: int) -> Window:
        """Return what was seen in a stage; nothing where it has not begun."""
        return next((w for w in self.windows if w.stage == stage), Window(stage=stage))

    def as_json(self) -> dict[str, object]:
        """Return plain data, which `from_json` reads."""
        return {**asdict(self), "scales": scales_json(self.scales)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Return what `as_json` told."""
        windows = tuple(_window(window) for window in told["windows"])
        return cls(windows=windows, scales=scales_from_json(told["scales"]))


def scales_json(scales: Scales) -> dict[str, object]:
    """Return scales as plain data; JSON has no infinity."""
    return {**asdict(scales), "cap": None if math.isinf(scales.cap) else scales.cap}


def scales_from_json(told: Mapping[str, Any]) -> Scales:
    """Return what `scales_json` told."""
    cap = math.inf if told["cap"] is None else told["cap"]
    return Scales(edges=tuple(told["edges"]), classes=tuple(told["classes"]), cap=cap)


def latency_bin(seconds: float) -> int:
    """Return the bin of a latency; bins are 2 % wide, from 0.1 ms to 1,000 s."""
    if seconds <= _FIRST_S:
        return 0
    return min(MOST_BINS - 1, int(math.log(seconds / _FIRST_S) / math.log(BIN)) + 1)


def latency_of(at: int) -> float:
    """Return the upper end of a bin, in seconds."""
    return float(_FIRST_S * BIN**at)


def _window(told: Mapping[str, Any]) -> Window:
    return Window(
        **{
            **told,
            "baseline": _arm(told["baseline"]),
            "candidate": _arm(told["candidate"]),
            "pairs": _pairs(told["pairs"]),
            "capped_pairs": _pairs(told["capped_pairs"]),
        }
    )


def _arm(told: Mapping[str, Any]) -> Arm:
    return Arm(
        **{
            **told,
            "latency": {int(at): count for at, count in told["latency"].items()},
            "predictions": tuple(told["predictions"]),
            "loss": Sample(**told["loss"]),
            "capped": Sample(**told["capped"]),
        }
    )


def _pairs(told: Mapping[str, Any]) -> Pairs:
    arms = {name: Sample(**told[name]) for name in ("baseline", "candidate")}
    return Pairs(**arms, products=told["products"])


def _added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    return {at: one.get(at, 0) + other.get(at, 0) for at in sorted({*one, *other})}


def _summed(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if not one or not other:
        return one or other
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _least(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((at for at in (one, other) if at is not None), default=None)
