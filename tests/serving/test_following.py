"""When a variant moves because its alias has, and when it waits."""

import pytest

from charkha.errors import UserError
from charkha.models.registries.port import ModelVersion
from charkha.serving.following import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    another_trouble,
    choose,
    lasting,
    moves,
)
from charkha.serving.wanted import WantedVariant

PACKAGES = {version: str(version) * 64 for version in range(1, 6)}


def registered(version, *aliases, package=""):
    kept = PACKAGES[version] if package == "" else package
    return ModelVersion("prices", version, kept, aliases, {}, "", 0.0)


def held(name, version, follows):
    return WantedVariant(name=name, version=version, package=PACKAGES[version], follows=follows)


CHAMPION, FIXED = held("champion", 2, "champion"), held("v2", 2, None)


def moved(variants, versions, troubles=(), now=0.0):
    found = moves(variants, versions, dict(troubles), now)
    return {name: version.version for name, version in found.items()}


def test_a_variant_moves_with_its_alias_and_one_without_stays():
    assert moved((CHAMPION, FIXED), [registered(2), registered(3, "champion")]) == {"champion": 3}


def test_an_alias_that_stands_where_it_stood_moves_nothing():
    assert moved((CHAMPION,), [registered(2, "champion"), registered(3)]) == {}


def test_an_alias_that_nobody_has_any_more_moves_nothing():
    assert moved((CHAMPION,), [registered(2), registered(3)]) == {}


def test_a_version_without_a_package_moves_nothing():
    assert moved((CHAMPION,), [registered(3, "champion", package=None)]) == {}


def test_another_package_under_the_same_number_moves_it_too():
    assert moved((CHAMPION,), [registered(2, "champion", package="f" * 64)]) == {"champion": 2}


def test_two_variants_of_one_alias_move_together():
    again = held("again", 2, "champion")
    assert moved((CHAMPION, again), [registered(3, "champion")]) == {"champion": 3, "again": 3}


def test_a_version_that_failed_is_tried_again_after_a_while_that_doubles_up_to_an_hour():
    trouble, now, waits = None, 0.0, []
    for _ in range(9):
        trouble = another_trouble(trouble, 3, PACKAGES[3], "no", now)
        waits.append(trouble.again_at - now)
        before = {"champion": trouble}
        assert moved((CHAMPION,), [registered(3, "champion")], before, trouble.again_at - 1) == {}
        now = trouble.again_at
        assert moved((CHAMPION,), [registered(3, "champion")], before, now) == {"champion": 3}
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S
    assert trouble.tries == 9


def test_it_is_tried_at_once_where_the_alias_or_the_package_is_another():
    troubles = {"champion": another_trouble(None, 3, PACKAGES[3], "no", 0.0)}
    assert moved((CHAMPION,), [registered(4, "champion")], troubles) == {"champion": 4}
    changed = [registered(3, "champion", package="f" * 64)]
    assert moved((CHAMPION,), changed, troubles) == {"champion": 3}
    assert another_trouble(troubles["champion"], 4, PACKAGES[4], "no", 0.0).tries == 1


def test_a_trouble_lasts_while_the_alias_stands_there():
    troubles = {"champion": another_trouble(None, 3, PACKAGES[3], "no", 0.0)}
    assert lasting(troubles, (CHAMPION,), [registered(3, "champion")]) == troubles
    assert lasting(troubles, (CHAMPION,), [registered(2, "champion")]) == {}
    assert lasting(troubles, (CHAMPION,), [registered(3)]) == {}
    assert lasting(troubles, (FIXED,), [registered(3, "champion")]) == {}


def test_a_number_or_an_alias_is_found():
    versions = [registered(2, "champion"), registered(3, "challenger")]
    assert choose(versions, "prices", "3").version == 3
    assert choose(versions, "prices", "champion").version == 2


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(UserError, match="has no version 9") as refused:
        choose([registered(2, "champion"), registered(3)], "prices", "9")
    assert refused.value.fix == "use one of: champion, 3, 2"
    with pytest.raises(UserError, match="no model is called 'prices'"):
        choose([], "prices", "9")
