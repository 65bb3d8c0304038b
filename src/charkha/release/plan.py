"""The plan of a release: a pure state machine from a verdict, or a person's word, to the next state.

Shares are parts of 100. Time is time with traffic, as the records tell it: without traffic a release waits,
and a clock that jumps ends nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from charkha.errors import UserError
from charkha.release.rules import Verdict

Strategy = Literal["canary", "blue-green", "shadow", "rolling"]
STRATEGIES: tuple[Strategy, ...] = ("canary", "blue-green", "shadow", "rolling")
Phase = Literal["judging", "watching", "promoted", "rolled back", "aborted"]
TERMINAL: frozenset[Phase] = frozenset({"promoted", "rolled back", "aborted"})
AtEnd = Literal["roll back", "promote", "hold"]
DEFAULT_STEPS = (1.0, 5.0, 25.0, 50.0, 100.0)
_ROLLING = (20.0, 40.0, 60.0, 80.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the candidate gets while it is judged."""

    share: float  # of 100
    shadow: bool = False  # it follows all requests and answers none


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages before a promotion, and what limits them."""

    strategy: Strategy
    stages: tuple[Stage, ...]
    step_s: float = 0.0  # at least, with traffic, in each stage
    most_s: float = 86_400.0  # with traffic, until the promotion
    at_end: AtEnd = "roll back"  # where `most_s` are over and nothing is decided
    watch_s: float = 3600.0  # with traffic, after the promotion
    watch_share: float = 5.0  # that the version before keeps meanwhile, to be compared with


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a release is, and why."""

    phase: Phase = "judging"
    stage: int = 0  # while it is watched: that after the last one
    overdue: bool = False  # `most_s` are over, and a person has to decide
    because: str = "it begins"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Who answers, in parts of 100, and who follows as a shadow."""

    baseline: float
    candidate: float
    shadow: Literal["baseline", "candidate"] | None = None


def make_plan(
    strategy: Strategy,
    *,
    steps: tuple[float, ...] | None = None,
    step_s: float = 0.0,
    most_s: float = 86_400.0,
    at_end: AtEnd = "roll back",
    watch_s: float = 3600.0,
    watch_share: float = 5.0,
) -> Plan:
    """Return the plan of a strategy.

    `canary` and `rolling` raise the candidate's share step by step; a first step of 0 has it follow
    as a shadow before it answers anybody. A rolling release needs no proof between two steps and at
    the end, only that nothing is worse. `shadow` and `blue-green` have the
    candidate follow all requests; `shadow` until it is shown to be no worse, `blue-green` until each
    has its least exposure, and then all traffic moves at once.

    Raises:
        UserError: the steps do not rise to 100, or the strategy has none.
    """
    if strategy in ("shadow", "blue-green"):
        if steps is not None:
            raise UserError(
                f"a {strategy} release has no steps", fix="leave --steps out, or --strategy canary"
            )
        stages: tuple[Stage, ...] = (Stage(share=0.0, shadow=True),)
    else:
        given = steps or (DEFAULT_STEPS if strategy == "canary" else _ROLLING)
        rising = given[0] >= 0 and all(a < b for a, b in itertools.pairwise(given))
        if not rising or given[-1] != 100:
            raise UserError(
                f"the steps {', '.join(f'{s:g}' for s in given)} do not rise to 100",
                fix="--steps 1,5,25,50,100",
            )
        stages = tuple(Stage(share=share, shadow=share == 0) for share in given[:-1])
        if not stages:
            raise UserError("with one step there is nothing to compare", fix="--steps 10,50,100")
    return Plan(
        strategy=strategy,
        stages=stages,
        step_s=step_s,
        most_s=most_s,
        at_end=at_end,
        watch_s=watch_s,
        watch_share=watch_share,
    )


def steps_of(text: str | None) -> tuple[float, ...] | None:
    """Read `0,25,100`; None of nothing.

    Raises:
        UserError: these are no numbers.
    """
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as e:
        raise UserError(f"{text!r} are no steps", fix="write them like this: 1,5,25,50,100") from e


def next_state(plan: Plan, state: State, verdict: Verdict) -> State:
    """Return the state that follows a verdict; the same one where nothing does."""
    if state.phase in TERMINAL:
        return state
    if verdict.kind == "roll back":
        return replace(state, phase="rolled back", overdue=False, because=verdict.because)
    if state.phase == "watching":
        if verdict.stage_s >= plan.watch_s:
            return replace(
                state, phase="promoted", because="nothing was worse while it was watched"
            )
        return state
    if _may_go_on(plan, state, verdict):
        return _one_further(plan, state, verdict)
    if verdict.total_s >= plan.most_s:
        return _at_the_end(plan, state, verdict)
    return state


def abort(state: State, because: str) -> State:
    """Return the state after a person ended the release; the traffic goes back.

    Raises:
        UserError: it has ended already.
    """
    return replace(_open(state), phase="aborted", overdue=False, because=because)


def promote(plan: Plan, state: State, because: str) -> State:
    """Return the state after a person promoted the candidate; while it is watched that ends it.

    Raises:
        UserError: it has ended already.
    """
    if _open(state).phase == "watching":
        return replace(state, phase="promoted", because=because)
    return _watched(plan, because)


def traffic(plan: Plan, state: State) -> Traffic:
    """Return who should answer now; the shares add up to 100."""
    if state.phase == "promoted":
        return Traffic(baseline=0.0, candidate=100.0)
    if state.phase == "watching":
        shadow = plan.stages[-1].shadow
        kept = 0.0 if shadow else plan.watch_share
        return Traffic(baseline=kept, candidate=100.0 - kept, shadow="baseline" if shadow else None)
    if state.phase == "judging":
        stage = plan.stages[state.stage]
        return Traffic(
            baseline=100.0 - stage.share,
            candidate=stage.share,
            shadow="candidate" if stage.shadow else None,
        )
    return Traffic(baseline=100.0, candidate=0.0)


def _may_go_on(plan: Plan, state: State, verdict: Verdict) -> bool:
    if not verdict.exposed or verdict.stage_s < plan.step_s:
        return False
    last = state.stage == len(plan.stages) - 1
    proof = last and plan.strategy in ("canary", "shadow")
    return verdict.kind == "promote" or not proof


def _one_further(plan: Plan, state: State, verdict: Verdict) -> State:
    if state.stage == len(plan.stages) - 1:
        return _watched(plan, verdict.because)
    share = plan.stages[state.stage + 1].share
    because = f"nothing is worse, so it gets {share:g} %"
    return replace(state, stage=state.stage + 1, overdue=False, because=because)


def _at_the_end(plan: Plan, state: State, verdict: Verdict) -> State:
    said = f"its time is over ({plan.most_s:g} s with traffic); {verdict.because}"
    if plan.at_end == "promote" and verdict.exposed:
        return _watched(plan, said)
    if plan.at_end == "roll back":
        return replace(state, phase="rolled back", overdue=False, because=said)
    return state if state.overdue else replace(state, overdue=True, because=said)


def _watched(plan: Plan, because: str) -> State:
    phase: Phase = "watching" if plan.watch_s else "promoted"
    return State(phase=phase, stage=len(plan.stages), because=because)


def _open(state: State) -> State:
    if state.phase in TERMINAL:
        raise UserError(
            f"this release has ended: it was {state.phase}", fix="charkha release history"
        )
    return state
