"""A release carried out from its start to its end, and killed at every call in between."""

from contextlib import closing

import pytest

from charkha.errors import UserError
from charkha.release import plan as plans
from charkha.release.controller import Controller, command
from charkha.release.kept import Release
from charkha.release.platforms.contract import PlatformContract
from charkha.release.platforms.memory import MemoryPlatform

from .world import NEW, OLD, World


class TestMemory(PlatformContract):
    @pytest.fixture
    def platform(self):
        made = MemoryPlatform(2)
        made.broken.add(99)
        return made


@pytest.fixture
def world(tmp_path):
    """Return `world(…)`, a service whose release has begun."""
    made = []

    def world(**how):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(World(folder, **how))
        return made[-1]

    yield world
    for each in made:
        each.close()


def serves(world):
    return [(a.name, a.version, a.share) for a in world.platform.holds()]


CANARY = [("judging", 0), ("judging", 1), ("watching", 2), ("promoted", 2)]


def test_a_good_version_becomes_champion_and_nothing_is_left_over(world):
    made = world()
    assert made.run().state.phase == "promoted"
    assert serves(made) == [("champion", NEW, 100)]
    assert (made.aliases.now, made.aliases.previous) == (NEW, OLD)
    assert made.story() == CANARY


def test_a_version_with_more_loss_never_becomes_champion_and_the_reason_is_kept(world):
    made = world(worse=2.0)
    assert made.run().state.phase == "rolled back"
    assert serves(made) == [("champion", OLD, 100)]
    assert made.aliases.moves == []
    last = made.ledger.read("release")[-1]
    assert last.because.startswith("worse: loss")
    assert {f["name"] for f in last.numbers["findings"] if f["worse"]} >= {"loss"}


def test_a_version_that_fails_requests_is_rolled_back_though_failures_are_in_no_record(world):
    made = world(failing=0.3)
    assert made.run().state.phase == "rolled back"
    assert "worse: errors" in made.ledger.read("release")[-1].because


def test_what_turns_bad_while_it_is_watched_goes_back_to_the_version_before(world):
    made = world(watch_s=2000)
    while made.kept().state.phase != "watching":
        made.controller.tick()
        made.pass_time()
    made.failing = 0.5
    assert made.run().state.phase == "rolled back"
    assert made.aliases.moves == [NEW, OLD]
    assert serves(made) == [("champion", OLD, 100)]


@pytest.mark.parametrize("strategy", ["shadow", "blue-green"])
def test_a_shadow_answers_nobody_before_it_is_promoted(world, strategy):
    made = world(strategy=strategy)
    made.run()
    assert made.story() == [("judging", 0), ("watching", 1), ("promoted", 1)]
    assert serves(made) == [("champion", NEW, 100)]
    bad = world(strategy=strategy, worse=3.0)
    while not bad.kept().decided and bad.kept().state.phase == "judging":
        bad.controller.tick()
        bad.pass_time(10)
        assert bad.answered == {OLD}


@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("worse", [1.0, 2.0])
def test_killed_at_any_call_the_next_controller_ends_it_the_same_way(world, dies, worse):
    whole = world(worse=worse)
    ended, calls = whole.run(), whole.calls
    for at in range(1, calls + 1, 5):
        made = world(worse=worse)
        made.dies, made.dies_at = dies, at
        assert made.run().state.phase == ended.state.phase, at
        assert serves(made) == serves(whole), at
        assert made.aliases.moves == whole.aliases.moves, at
        assert made.story() == whole.story(), at


def test_while_one_controller_has_the_lease_another_does_nothing(world):
    made = world()
    other = Controller("prices", made.around, who="bob")
    assert made.controller.tick() == "acted"
    assert other.tick() == "busy"
    made.controller.close()
    assert other.tick() != "busy"


def test_who_was_overtaken_while_it_observed_does_not_act(world):
    made = world()
    made.controller.tick()
    holds = made.platform.holds

    def slow():
        made.platform.holds = holds
        made.now += 61  # longer than the lease
        command(made.around, "prices", lambda r: plans.abort(r.state, "no"), who="eve")
        other = Controller("prices", made.around, who="bob")
        while other.tick() in ("acted", "moved"):
            pass
        other.close()
        return before

    before, made.platform.holds = holds(), slow
    assert made.controller.tick() == "busy"
    assert serves(made) == [("champion", OLD, 100)]
    assert made.controller.tick() == "ended"


def test_two_controllers_whose_clocks_disagree_decide_once(world):
    made = world()
    others = [made.controller, Controller("prices", made.around, who="bob")]
    for turn in range(300):
        made.now += 61  # whoever comes finds the other's lease over
        if others[turn % 2].tick() == "ended":
            break
        made.pass_time(10)
    assert made.story() == CANARY
    assert made.aliases.moves == [NEW]


def test_without_traffic_it_waits_for_ever(world):
    made = world(per_s=0)
    for _ in range(50):
        made.controller.tick()
        made.pass_time(86_400)
    assert made.kept().state == plans.State()
    assert "no traffic" in made.kept().verdict["because"]


def test_a_version_that_cannot_be_loaded_gets_no_traffic_and_says_why(world):
    made = world()
    made.platform.broken.add(NEW)
    ended = made.run()
    assert (ended.state.phase, made.answered - {OLD}) == ("rolled back", set())
    assert "cannot be served" in ended.state.because


def test_a_person_can_end_it_and_the_traffic_goes_back(world):
    made = world()
    for _ in range(6):
        made.controller.tick()
        made.pass_time(1)
    assert serves(made)[0] == ("champion", OLD, 90)
    command(made.around, "prices", lambda r: plans.abort(r.state, "complaints"), who="eve")
    assert made.run().state.phase == "aborted"
    assert serves(made) == [("champion", OLD, 100)]
    last = made.ledger.read("release")[-1]
    assert (last.because, last.who) == ("complaints", "eve")
    with pytest.raises(UserError, match="has ended"):
        command(made.around, "prices", lambda r: plans.abort(r.state, "again"), who="eve")


def test_a_person_can_promote_it_early_and_it_is_watched(world):
    made = world()
    made.controller.tick()
    command(made.around, "prices", lambda r: plans.promote(r.plan, r.state, "sure"), who="eve")
    assert made.run().state.phase == "promoted"
    assert made.story() == [("judging", 0), ("watching", 2), ("promoted", 2)]


def test_a_counter_that_began_anew_loses_no_failures(world):
    release = world().kept().opened(paired=False, now=1.0)
    for seen in ({NEW: 5}, {NEW: 7, OLD: 1}, {NEW: 2, OLD: 0}):  # the server was started again
        release = release.counted(seen)
    assert release.errors == {0: (1, 9)}


def test_a_clock_that_steps_back_makes_no_spans_that_overlap(world):
    begun = world().kept()
    at = begun.began_at
    release = begun.opened(paired=False, now=at + 100)
    on = release.moved(plans.State(stage=1), at + 50, "ann").opened(paired=False, now=at + 40)
    assert [(s.since - at, s.until and s.until - at) for s in on.spans] == [(100, 100), (100, None)]
    assert begun.opened(paired=False, now=at - 86_400).span.since == at


def test_decisions_are_told_in_their_order_though_a_clock_steps_back(world):
    release = world().kept()
    moments = [release.began_at]
    for now in (release.began_at + 5, release.began_at - 86_400, release.began_at):
        release = release.moved(plans.State(stage=len(moments)), now, "ann")
        moments.append(release.decided_at)
    assert moments == sorted(set(moments))


def test_a_release_comes_back_from_its_state_as_it_was(world):
    made = world()
    for _ in range(12):
        made.controller.tick()
        made.pass_time(5)
    kept = made.kept()
    assert kept.verdict
    assert Release.from_json(kept.as_json()) == kept
    with closing(made.controller):
        pass


def test_it_ends_only_once_the_champions_variant_has_followed(world):
    made = world()
    move, made.platform.move = made.platform.move, lambda alias, version: None  # a slow server
    did = []
    while "waiting" not in did:
        did.append(made.controller.tick())
        made.pass_time(30)
        assert "ended" not in did
    assert serves(made)[-1] == ("release-3", NEW, 100)
    move("champion", NEW)
    made.run()
    assert serves(made) == [("champion", NEW, 100)]
