import pytest

from charkha.errors import Refused
from charkha.models.aliasing import Move, on_promotion, on_registration, on_rollback
from charkha.models.registries.port import ModelVersion


def version(number, *aliases, gate="passed", against="none", run="r1"):
    tags = {
        "charkha.gate": gate,
        "charkha.judged_against": f"champion:{against}",
        "charkha.judged_in": run,
    }
    return ModelVersion("m", number, f"p{number}", aliases, tags, "", 0.0)


def moves(plan):
    return [tuple(move) for move in plan.moves]


def carried_out(versions, plan):
    """Return the versions as they are after the plan's moves."""
    for alias, number in plan.moves:
        versions = [
            v._replace(
                aliases=tuple(
                    sorted({*v.aliases} - {alias} | ({alias} if v.version == number else set()))
                )
            )
            for v in versions
        ]
    return versions


def test_the_first_that_passes_is_champion():
    v1 = version(1)
    assert moves(on_registration([v1], v1)) == [("champion", 1)]


def test_a_first_one_that_is_refused_is_nothing_and_the_next_that_passes_is_champion():
    v1, v2 = version(1, gate="refused"), version(2)
    assert moves(on_registration([v1], v1)) == []
    assert moves(on_registration([v1, v2], v2)) == [("champion", 2)]


def test_a_later_one_that_passed_against_the_champion_is_challenger():
    v1, v2 = version(1, "champion"), version(2, against="p1")
    assert moves(on_registration([v1, v2], v2)) == [("challenger", 2)]


def test_a_verdict_against_another_champion_names_no_challenger():
    v1, v2 = version(1), version(2, "champion")
    v3 = version(3, against="p1")
    plan = on_registration([v1, v2, v3], v3)
    assert moves(plan) == []
    assert "before m@2 became champion" in plan.because


def test_the_challenger_of_a_later_run_stays():
    v1 = version(1, "champion")
    v2, v3 = version(2, against="p1", run="r2"), version(3, "challenger", against="p1", run="r3")
    assert moves(on_registration([v1, v2, v3], v2)) == []
    again = v2._replace(tags={**v2.tags, "charkha.judged_in": "r4"})
    assert moves(on_registration([v1, again, v3], again)) == [("challenger", 2)]


def test_a_challenger_that_a_later_verdict_refuses_is_challenger_no_more():
    v1, v2 = version(1, "champion"), version(2, "challenger", gate="refused", against="p1")
    assert moves(on_registration([v1, v2], v2)) == [("challenger", None)]


def test_a_champion_stays_champion_whatever_a_later_verdict_says():
    v1 = version(1, "champion", gate="refused")
    assert moves(on_registration([v1], v1)) == []


def test_registration_twice_is_once():
    for versions in (
        [version(1)],
        [version(1, "champion"), version(2, against="p1")],
    ):
        after = carried_out(versions, on_registration(versions, versions[-1]))
        assert moves(on_registration(after, after[-1])) == []


def test_a_promotion_makes_the_old_champion_previous_and_takes_the_challengers_alias():
    versions = [version(1, "champion"), version(2, "challenger", against="p1")]
    after = carried_out(versions, on_promotion(versions, versions[1]))
    assert [v.aliases for v in after] == [("previous",), ("champion",)]
    assert moves(on_promotion(after, after[1])) == []


def test_another_challenger_stays_one():
    versions = [version(1, "champion"), version(2, "challenger"), version(3)]
    after = carried_out(versions, on_promotion(versions, versions[2]))
    assert [v.aliases for v in after] == [("previous",), ("challenger",), ("champion",)]


@pytest.mark.parametrize("done", range(4))
def test_a_promotion_cut_off_after_any_move_ends_the_same(done):
    versions = [version(1, "champion"), version(2, "challenger", against="p1")]
    plan = on_promotion(versions, versions[1])
    half = carried_out(versions, plan._replace(moves=plan.moves[:done]))
    after = carried_out(half, on_promotion(half, half[1]))
    assert [v.aliases for v in after] == [("previous",), ("champion",)]


def test_what_the_gate_refused_is_not_promoted_unless_somebody_insists():
    versions = [version(1, "champion"), version(2, gate="refused", against="p1")]
    with pytest.raises(Refused, match="the gate refused m@2"):
        on_promotion(versions, versions[1])
    assert Move("champion", 2) in on_promotion(versions, versions[1], force=True).moves


@pytest.mark.parametrize("done", range(3))
def test_a_rollback_cut_off_after_any_move_ends_the_same(done):
    versions = [version(1, "previous"), version(2, "champion")]
    plan = on_rollback("m", versions)
    half = carried_out(versions, plan._replace(moves=plan.moves[:done]))
    after = half if done == 2 else carried_out(half, on_rollback("m", half))
    assert [v.aliases for v in after] == [("champion",), ()]


def test_there_is_one_step_back_and_no_second():
    with pytest.raises(Refused, match="no previous version"):
        on_rollback("m", [version(1, "champion"), version(2)])
