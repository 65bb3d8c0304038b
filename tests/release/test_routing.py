"""From who answers to who should: one change at a time, none of which leaves callers alone."""

from dataclasses import replace

import pytest

from charkha.release.kept import Release
from charkha.release.plan import STRATEGIES, State, make_plan, traffic
from charkha.release.platforms.memory import MemoryPlatform
from charkha.release.routing import Add, Drop, Shares, next_act, waits_for_home
from charkha.release.rules import Rules

OLD, NEW = 2, 3


def release(strategy="canary", **state):
    return Release(
        id="r1", model="prices", baseline=OLD, candidate=NEW, plan=make_plan(strategy), rules=Rules(),
        loss="auto", home="champion", began_at=0.0, by="ann", state=State(**state),
    )  # fmt: skip


def carry_out(begun, platform):
    """Do all that is to be done; return it. Whoever answers always adds up to 100."""
    done = []
    while (act := next_act(begun, platform.holds())) is not None:
        match act:
            case Add(name, version, shadow):
                platform.add(name, version, shadow=shadow)
            case Shares(shares):
                platform.set_shares(shares)
            case Drop(name):
                assert {a.name: a.share for a in platform.holds()}[name] == 0
                platform.drop(name)
        assert sum(arm.share for arm in platform.holds()) == pytest.approx(100)
        done.append(act)
        assert len(done) < 20, done
    return done


def shares(platform):
    return {arm.name: arm.share for arm in platform.holds() if arm.share}


def states(strategy):
    stages = len(make_plan(strategy).stages)
    phases = ["rolled back", "aborted", "promoted"]
    return [
        *(release(strategy, stage=n) for n in range(stages)),
        *(release(strategy, phase=phase, stage=stages) for phase in ("watching", *phases)),
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_from_every_state_every_other_is_reached_by_single_safe_changes(strategy):
    for before in states(strategy):
        for after in states(strategy):
            platform = MemoryPlatform(OLD)
            carry_out(before, platform)
            carry_out(after, platform)
            versions = {OLD: 0.0, NEW: 0.0}
            for arm in platform.holds():
                versions[arm.version] += arm.share
            wanted = traffic(after.plan, after.state)
            assert versions == pytest.approx({OLD: wanted.baseline, NEW: wanted.candidate})
            assert carry_out(after, platform) == []


def test_the_version_before_is_pinned_before_the_alias_moves():
    platform = MemoryPlatform(OLD)
    watching = release(phase="watching", stage=4)
    carry_out(watching, platform)
    assert shares(platform) == {"release-2": 5, "release-3": 95}
    platform.move("champion", NEW)
    assert carry_out(watching, platform) == []


def test_at_the_end_the_champions_variant_answers_and_what_was_added_is_gone():
    platform = MemoryPlatform(OLD)
    carry_out(release(phase="watching", stage=4), platform)
    platform.move("champion", NEW)
    carry_out(release(phase="promoted", stage=4), platform)
    assert [(a.name, a.version, a.share) for a in platform.holds()] == [("champion", NEW, 100)]


def test_it_waits_for_the_variant_that_has_yet_to_follow_and_for_no_other():
    platform = MemoryPlatform(OLD)
    done = release(phase="promoted", stage=4)
    carry_out(done, platform)
    assert shares(platform) == {"release-3": 100}
    assert waits_for_home(done, platform.holds(), NEW)
    assert not waits_for_home(done, platform.holds(), 9)  # somebody made another one champion
    pinned = [replace(arm, follows=None) for arm in platform.holds()]
    assert not waits_for_home(done, pinned, NEW)
    platform.move("champion", NEW)
    assert not waits_for_home(done, platform.holds(), NEW)
