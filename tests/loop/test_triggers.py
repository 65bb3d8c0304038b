"""Whether to begin a turn: order, cool-downs, budgets, a person, and a clock that goes back."""

import random

import pytest

from charkha.errors import ProjectError
from charkha.loop.triggers import BUDGET_S, DEFAULT, ORDER, Begun, Signal, decide, triggers_of
from charkha.loop.turns import Kept, Turn
from charkha.project import TriggerSettings

DAY, NOW = 86_400.0, 1_800_000_000.0
KINDS = ORDER[1:]  # a person is no trigger of charkha.toml


def sees(kind, fires=True):
    return Signal(kind=kind, fires=fires, because=f"{kind} was seen")


def rules(*kinds, **how):
    return tuple(TriggerSettings(on=kind, **how) for kind in kinds or KINDS)


def begun(days_ago, trigger="drift"):
    return Begun(trigger=trigger, at=NOW - days_ago * DAY)


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_of_several_that_fire_the_first_in_order_begins_the_turn(first):
    signals = [sees(kind) for kind in ORDER[first:]]
    random.Random(first).shuffle(signals)
    signals += [sees(kind, fires=False) for kind in ORDER[:first]]
    choice = decide(signals, rules(), (), NOW)
    assert choice.retrain
    assert choice.signal.kind == ORDER[first]
    assert choice.because == f"{ORDER[first]}: {ORDER[first]} was seen"


def test_nothing_fires_and_the_reason_says_what_was_looked_at_in_order():
    quiet = [sees(kind, fires=False) for kind in ("schedule", "person", "drift")]
    choice = decide(quiet, rules(), (), NOW)
    assert (choice.retrain, choice.signal) == (False, None)
    assert choice.because == "drift: drift was seen; schedule: schedule was seen"
    assert decide([], rules(), (), NOW).because == "there is nothing to look at"


@pytest.mark.parametrize("earlier", ORDER)
def test_a_trigger_cools_down_from_the_last_turn_whatever_began_it(earlier):
    before = (begun(3, earlier), begun(0.5, earlier))
    held = decide([sees("drift")], rules(cool_down_s=DAY), before, NOW)
    assert not held.retrain
    said = "but the last turn was 12 h ago, and it cools down 12 h more"
    assert held.because == f"drift: drift was seen; {said}"
    assert decide([sees("drift")], rules(cool_down_s=DAY), before, NOW + DAY / 2).retrain


def test_one_that_is_held_back_does_not_hold_back_the_next():
    triggers = rules("performance", cool_down_s=DAY) + rules("data", cool_down_s=60.0)
    choice = decide([sees("performance"), sees("data")], triggers, (begun(0.5),), NOW)
    assert choice.signal.kind == "data"
    held = decide([sees("performance"), sees("data")], triggers, (begun(0),), NOW)
    assert held.because.count("cools down") == 2


def test_a_budget_is_a_triggers_own_and_comes_back_after_thirty_days():
    triggers = rules("drift", "data", cool_down_s=0.0, budget=2)
    spent = (begun(29), begun(1), begun(31), begun(2, "data"))
    held = decide([sees("drift")], triggers, spent, NOW)
    assert held.because.endswith("but its budget is spent: 2 of 2 turns in 30 days")
    assert decide([sees("drift"), sees("data")], triggers, spent, NOW).signal.kind == "data"
    assert decide([sees("drift")], triggers, spent, NOW + DAY).retrain
    assert not decide([sees("drift")], rules("drift", budget=0), (), NOW).retrain


def test_a_person_is_never_held_back():
    many = tuple(begun(0, kind) for kind in ORDER for _ in range(50))
    choice = decide([sees("person"), sees("drift")], rules(budget=0), many, NOW)
    assert choice.signal.kind == "person"


def test_what_no_trigger_is_on_for_begins_nothing():
    held = decide([sees("data")], rules("drift"), (), NOW)
    assert held.because == "data: data was seen; no [[trigger]] is on for it"


@pytest.mark.parametrize("seed", range(20))
def test_after_a_clock_that_was_wrong_nothing_is_held_back_for_longer_than_two_cool_downs(seed):
    chance = random.Random(seed)
    before = tuple(begun(chance.uniform(-400, 0)) for _ in range(chance.randint(1, 3)))
    triggers = rules("drift", cool_down_s=DAY, budget=10)
    held = sum(
        not decide([sees("drift")], triggers, before, NOW + hour * 3600).retrain
        for hour in range(24 * 500)
    )
    assert held <= 2 * 24 * len(before)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_seen_a_turn_keeps_every_rule_and_a_refusal_says_why(seed):
    chance = random.Random(seed)
    triggers = tuple(
        TriggerSettings(
            on=kind, cool_down_s=chance.uniform(0, 3) * DAY, budget=chance.randint(0, 4)
        )
        for kind in chance.sample(KINDS, chance.randint(1, 4))
    )
    signals = [sees(kind, fires=chance.random() < 0.5) for kind in ORDER]
    before = tuple(
        begun(chance.uniform(0, 40), chance.choice(ORDER)) for _ in range(chance.randint(0, 8))
    )
    choice = decide(signals, triggers, before, NOW)
    assert choice.because
    assert choice == decide(reversed(signals), triggers, reversed_(before), NOW)
    firing = [s.kind for s in signals if s.fires]
    if not choice.retrain:
        assert "person" not in firing
        assert all(f"{kind}: {kind} was seen;" in f"{choice.because};" for kind in firing)
        return
    assert choice.signal.kind in firing
    if choice.signal.kind != "person":
        rule = next(t for t in triggers if t.on == choice.signal.kind)
        assert all(NOW - b.at >= rule.cool_down_s for b in before)
        own = [b for b in before if b.trigger == rule.on and NOW - b.at < BUDGET_S]
        assert len(own) < rule.budget


def reversed_(begun):
    return tuple(reversed(begun))


def test_without_triggers_a_project_has_drift_and_lower_performance():
    assert triggers_of(()) == DEFAULT
    assert {t.on for t in DEFAULT} == {"drift", "performance"}
    assert triggers_of(rules("data")) == rules("data")


def test_two_triggers_of_a_kind_are_refused_and_none_is_dropped_in_silence():
    with pytest.raises(ProjectError, match="two triggers are on 'schedule'"):
        triggers_of(rules("schedule", "drift", "schedule", cron="0 3 * * 1"))


def test_a_daily_schedule_is_not_held_back_by_its_own_turn_of_the_day_before():
    """That began later than the loop looks today, and took hours."""
    daily = (TriggerSettings(on="schedule", cron="0 3 * * *"),)
    before = (Begun(trigger="schedule", at=NOW - DAY / 2),)
    assert decide([sees("schedule")], daily, before, NOW).retrain
    asked = (TriggerSettings(on="schedule", cron="0 3 * * *", cool_down_s=DAY),)
    assert not decide([sees("schedule")], asked, before, NOW).retrain
    others = [decide([sees(k)], rules(), before, NOW).retrain for k in KINDS if k != "schedule"]
    assert others == [False] * 3


def test_one_that_waits_for_labels_begins_nothing_before_so_many_are_new():
    triggers = rules("drift", labels=100)
    held = decide([sees("drift")], triggers, (), NOW, new_labels=99)
    assert held.because.endswith("but of the 100 new ground truths that it takes, 99 are there")
    assert decide([sees("drift")], triggers, (), NOW, new_labels=100).retrain


def turn(**changes):
    given = {
        "id": "t1", "trigger": "drift", "because": "it drifted", "began_at": NOW,
        "params": {"since": ""}, "decided_at": NOW, "by": "ann",
    }  # fmt: skip
    return Turn(**{**given, **changes})


def test_what_a_loop_remembers_is_the_same_after_it_was_kept():
    kept = Kept(watching_since=NOW).with_turn(turn(), data={"ames": "md5:1"}, labels=7)
    assert Kept.from_json(kept.as_json()) == kept
    assert Kept.from_json(Kept(watching_since=NOW).as_json()) == Kept(watching_since=NOW)


def test_turns_that_no_budget_counts_are_forgotten():
    kept = Kept(watching_since=NOW)
    for day in range(100):  # none of which has ended
        kept = kept.with_turn(turn(began_at=NOW + day * DAY), data={}, labels=0)
    assert [b.at for b in kept.begun] == [NOW + day * DAY for day in range(70, 100)]


def test_a_trigger_cools_down_from_the_end_of_a_turn():
    kept = Kept(watching_since=NOW).with_turn(turn(), data={}, labels=0)
    ended = kept.with_end(kept.turn.ended(NOW + DAY, "ann", "refused", "it is worse"))
    assert [b.at for b in ended.begun] == [NOW + DAY]
    held = decide([sees("drift")], rules(cool_down_s=DAY), ended.begun, NOW + DAY + 60)
    assert "the last turn was 60 s ago" in held.because


def test_phases_stand_in_the_ledger_in_their_order_though_the_clock_goes_back():
    first = turn()
    second = first.moved(NOW - DAY, "bob", "the gate passed", phase="releasing")
    last = second.ended(NOW - DAY, "bob", "promoted", "it is champion")
    assert first.decided_at < second.decided_at < last.decided_at
