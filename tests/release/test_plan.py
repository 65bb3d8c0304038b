"""The plan as rules, and a walk over all short sequences of what can happen to it."""

from itertools import product

import pytest

from charkha.errors import UserError
from charkha.release.plan import (
    STRATEGIES,
    TERMINAL,
    State,
    abort,
    make_plan,
    next_state,
    promote,
    traffic,
)
from charkha.release.rules import Verdict

LONG = 1e6
VERDICTS = {
    "nothing": Verdict(kind="keep collecting", because="no traffic"),
    "few": Verdict(kind="keep collecting", because="few", stage_s=5, total_s=5),
    "exposed": Verdict(
        kind="keep collecting", because="open", exposed=True, stage_s=20, total_s=20
    ),
    "long": Verdict(kind="keep collecting", because="open", exposed=True, stage_s=20, total_s=LONG),
    "longest": Verdict(
        kind="keep collecting", because="open", exposed=True, stage_s=LONG, total_s=LONG
    ),
    "stale": Verdict(kind="keep collecting", because="few", stage_s=20, total_s=LONG),
    "fine": Verdict(kind="promote", because="fine", exposed=True, stage_s=20, total_s=20),
    "worse": Verdict(kind="roll back", because="worse", stage_s=1, total_s=1),
}


def plan(strategy="canary", **how):
    return make_plan(strategy, **{"step_s": 10, "most_s": 1000, "watch_s": 500, **how})


def walk(made, *names, state=None):
    state = state or State()
    for name in names:
        state = next_state(made, state, VERDICTS[name])
    return state


PLANS = [
    plan(strategy, at_end=at_end, watch_s=watch_s)
    for strategy, at_end, watch_s in product(STRATEGIES, ("roll back", "promote", "hold"), (0, 500))
] + [plan("canary", steps=(10, 100)), plan("rolling", steps=(50, 75, 100), watch_share=0)]


@pytest.mark.parametrize("made", PLANS)
def test_whatever_happens_traffic_adds_up_and_an_end_is_an_end(made):
    """All states that any sequence of verdicts and commands reaches, and every step from each."""
    known, todo = set(), [State()]
    while todo:
        state = todo.pop()
        if state in known:
            continue
        known.add(state)
        shares = traffic(made, state)
        assert shares.baseline + shares.candidate == 100
        assert min(shares.baseline, shares.candidate) >= 0
        if state.phase in ("rolled back", "aborted"):
            assert (shares.candidate, shares.shadow) == (0, None)
        after = [next_state(made, state, verdict) for verdict in VERDICTS.values()]
        if state.phase in TERMINAL:
            assert set(after) == {state}
            continue
        assert after[list(VERDICTS).index("worse")].phase == "rolled back"
        assert after[0] == state  # no traffic
        after += [abort(state, "said so"), promote(made, state, "said so")]
        assert all(new.stage >= state.stage for new in after if new.phase == state.phase)
        todo += after
    assert {s.phase for s in known} >= {"judging", "promoted", "rolled back", "aborted"}
    assert len(known) < 200


@pytest.mark.parametrize("made", PLANS)
def test_of_all_short_sequences_none_brings_a_version_back_that_was_rolled_back(made):
    for names in product(VERDICTS, repeat=4):
        state, ended = State(), False
        for name in names:
            state = next_state(made, state, VERDICTS[name])
            ended = ended or state.phase == "rolled back"
            assert not ended or traffic(made, state).candidate == 0


def test_a_canary_rises_step_by_step_and_needs_proof_at_the_last():
    made = plan()
    shares = [traffic(made, walk(made, *["exposed"] * n)).candidate for n in range(6)]
    assert shares == [1, 5, 25, 50, 50, 50]
    assert walk(made, *["exposed"] * 5, "fine").phase == "watching"
    assert walk(made, "fine", "fine").phase == "judging"


def test_a_rolling_release_needs_only_that_nothing_is_worse():
    made = plan("rolling")
    shares = [traffic(made, walk(made, *["exposed"] * n)).candidate for n in range(5)]
    assert shares == [20, 40, 60, 80, 95]
    assert walk(made, "exposed", "worse").phase == "rolled back"


def test_blue_and_green_swap_at_once_and_the_old_one_follows_ready_to_come_back():
    made = plan("blue-green")
    assert traffic(made, State()) == traffic(made, walk(made, "few"))
    assert traffic(made, State()).shadow == "candidate"
    after = walk(made, "exposed")
    assert (after.phase, traffic(made, after).candidate) == ("watching", 100)
    assert traffic(made, after).shadow == "baseline"


def test_a_shadow_answers_nobody_until_it_is_shown_to_be_no_worse():
    made = plan("shadow")
    assert {traffic(made, walk(made, *["exposed"] * n)).candidate for n in range(4)} == {0}
    assert traffic(made, walk(made, "fine")).candidate == 100


def test_a_stage_lasts_as_long_as_asked_however_many_requests_come():
    made = plan(step_s=30)
    assert walk(made, "exposed") == State()


def test_while_it_is_watched_the_version_before_keeps_a_part_and_can_come_back():
    made = plan()
    watched = walk(made, *["exposed"] * 4, "fine")
    assert (traffic(made, watched).baseline, traffic(made, watched).candidate) == (5, 95)
    assert walk(made, "exposed", state=watched) == watched
    assert walk(made, "longest", state=watched).phase == "promoted"
    assert traffic(made, walk(made, "worse", state=watched)).baseline == 100


def test_when_its_time_is_over_it_ends_as_the_plan_says():
    last = ["exposed"] * 3
    ends = {
        at_end: walk(plan(at_end=at_end), *last, "long")
        for at_end in ("roll back", "promote", "hold")
    }
    assert [ends[e].phase for e in ends] == ["rolled back", "watching", "judging"]
    assert "its time is over" in ends["roll back"].because
    assert ends["hold"].overdue
    assert walk(plan(at_end="hold"), "fine", state=ends["hold"]).phase == "watching"


def test_what_was_never_exposed_is_not_promoted_when_its_time_is_over():
    assert walk(plan(at_end="promote"), "stale").phase == "judging"


def test_time_without_traffic_is_no_time():
    assert walk(plan(), *["nothing"] * 50) == State()


def test_a_first_step_of_0_is_a_shadow_that_then_gets_traffic():
    made = make_plan("canary", steps=(0, 20, 100))
    assert [(s.share, s.shadow) for s in made.stages] == [(0, True), (20, False)]
    assert traffic(made, State()).shadow == "candidate"
    assert traffic(made, State(stage=1)).candidate == 20
    assert traffic(made, State(phase="watching", stage=2)).shadow is None


@pytest.mark.parametrize(
    ("strategy", "steps", "says"),
    [
        ("canary", (5, 1, 100), "do not rise to 100"),
        ("canary", (5, 50), "do not rise to 100"),
        ("canary", (-1, 100), "do not rise to 100"),
        ("canary", (0, 0, 100), "do not rise to 100"),
        ("rolling", (100,), "nothing to compare"),
        ("shadow", (1, 100), "has no steps"),
    ],
)
def test_steps_that_cannot_be_are_refused(strategy, steps, says):
    with pytest.raises(UserError, match=says):
        make_plan(strategy, steps=steps)


def test_what_has_ended_takes_no_commands():
    ended = walk(plan(), "worse")
    for command in (lambda: abort(ended, "no"), lambda: promote(plan(), ended, "yes")):
        with pytest.raises(UserError, match="it was rolled back"):
            command()
