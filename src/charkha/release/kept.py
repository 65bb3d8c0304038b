"""A release as it is kept between two looks: one JSON value, from which any controller goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from charkha.release.collecting import Loss, Span
from charkha.release.evidence import Scales, scales_from_json, scales_json
from charkha.release.plan import TERMINAL, Plan, Stage, State
from charkha.release.rules import Rules

_LATER_S = 0.001  # between two decisions, at least, so that history has them in order


@dataclass(frozen=True, kw_only=True)
class Release:
    """Everything that a controller has to know; evidence is counted again from the records."""

    id: str  # sorts by the time at which it began
    model: str
    baseline: int
    candidate: int
    plan: Plan
    rules: Rules
    loss: Loss
    home: str  # the variant that answered everything before
    began_at: float  # unix seconds
    by: str  # who brought it into its state
    state: State = State()
    spans: tuple[Span, ...] = ()
    scales: Scales = Scales()
    failures: Mapping[int, int] = field(default_factory=dict)  # by version, as last read
    errors: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # by stage, of both arms
    verdict: Mapping[str, Any] | None = None  # the last one, as plain data
    looked_at: float | None = None
    decided_at: float | None = None  # when `state` was reached
    ended_at: float | None = None  # and everything was tidied up
    turn: str | None = None  # of the loop that started it; a person's has none

    @property
    def subject(self) -> str:
        """What the ledger calls it: `house-prices@3`."""
        return f"{self.model}@{self.candidate}"

    @property
    def decided(self) -> bool:
        return self.state.phase in TERMINAL

    @property
    def span(self) -> Span | None:
        """The span that is open now."""
        last = self.spans[-1] if self.spans else None
        return last if last is not None and last.until is None else None

    def moved(self, state: State, now: float, by: str) -> Release:
        """Return it in another state, the open span closed; later than before, whatever a clock says."""
        told = self.began_at if self.decided_at is None else self.decided_at
        at = max(now, told + _LATER_S)
        if self.span is not None and (state.phase, state.stage) != (
            self.state.phase,
            self.state.stage,
        ):
            closed = replace(self.span, until=max(now, self.span.since))
            return replace(
                self, state=state, decided_at=at, spans=(*self.spans[:-1], closed), by=by
            )
        return replace(self, state=state, decided_at=at, by=by)

    def opened(self, *, paired: bool, now: float) -> Release:
        """Return it with a span from now on; never before the release, nor before the last one."""
        since = max(now, self.began_at, *(span.until or span.since for span in self.spans))
        span = Span(stage=self.state.stage, paired=paired, since=since)
        return replace(self, spans=(*self.spans, span))

    def counted(self, failures: Mapping[int, int]) -> Release:
        """Return it with the failures since the last look; a counter that fell began anew."""
        if self.span is None:
            return replace(self, failures=dict(failures))
        new = [
            count - before if count >= (before := self.failures.get(version, 0)) else count
            for version in (self.baseline, self.candidate)
            for count in (failures.get(version, 0),)
        ]
        stage = self.span.stage
        base, cand = self.errors.get(stage, (0, 0))
        errors = {**self.errors, stage: (base + new[0], cand + new[1])}
        return replace(self, failures=dict(failures), errors=errors)

    def as_json(self) -> dict[str, Any]:
        """Return plain data, which `from_json` reads."""
        return {**asdict(self), "scales": scales_json(self.scales)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Return what `as_json` told."""
        plan = {**told["plan"], "stages": tuple(Stage(**stage) for stage in told["plan"]["stages"])}
        rules: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in told["rules"].items()
        }
        return cls(
            **{
                **told,
                "plan": Plan(**plan),
                "rules": Rules(**rules),
                "state": State(**told["state"]),
                "spans": tuple(Span(**span) for span in told["spans"]),
                "scales": scales_from_json(told["scales"]),
                "failures": {int(v): count for v, count in told["failures"].items()},
                "errors": {int(s): tuple(counts) for s, counts in told["errors"].items()},
            }
        )
