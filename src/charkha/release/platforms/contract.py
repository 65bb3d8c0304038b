"""What every Platform must do. A new one passes this suite before it is reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from charkha.errors import Refused

if TYPE_CHECKING:
    from charkha.release.platforms.port import Arm, Platform


class PlatformContract:
    """Subclass it with a fixture `platform` that holds version 2 as `champion`, and can load 3."""

    def test_at_first_the_champion_answers_all(self, platform: Platform) -> None:
        [arm] = platform.holds()
        assert (arm.name, arm.version, arm.share, arm.shadow) == ("champion", 2, 100, False)
        assert arm.follows == "champion"

    def test_what_is_added_has_no_share_until_it_gets_one(self, platform: Platform) -> None:
        platform.add("next", 3, shadow=False)
        assert (held(platform)["next"].version, held(platform)["next"].share) == (3, 0)
        platform.set_shares({"champion": 95, "next": 5})
        assert {name: arm.share for name, arm in held(platform).items()} == pytest.approx(
            {"champion": 95, "next": 5}
        )

    def test_who_is_not_named_gets_nothing(self, platform: Platform) -> None:
        platform.add("next", 3, shadow=False)
        platform.set_shares({"next": 100})
        assert held(platform)["champion"].share == 0

    def test_a_shadow_takes_no_share(self, platform: Platform) -> None:
        platform.add("next", 3, shadow=True)
        assert held(platform)["next"].shadow
        with pytest.raises(Refused):
            platform.set_shares({"champion": 50, "next": 50})
        assert held(platform)["champion"].share == 100

    def test_all_may_be_done_twice(self, platform: Platform) -> None:
        for _ in range(2):
            platform.add("next", 3, shadow=False)
            platform.set_shares({"champion": 50, "next": 50})
        for _ in range(2):
            platform.set_shares({"champion": 100})
            platform.drop("next")
        assert list(held(platform)) == ["champion"]

    def test_a_name_that_is_taken_by_something_else_is_refused(self, platform: Platform) -> None:
        platform.add("next", 3, shadow=True)
        with pytest.raises(Refused):
            platform.add("next", 3, shadow=False)

    def test_the_last_one_that_answers_is_not_dropped(self, platform: Platform) -> None:
        platform.add("next", 3, shadow=False)
        with pytest.raises(Refused):
            platform.drop("champion")

    def test_a_version_that_cannot_be_loaded_is_refused(self, platform: Platform) -> None:
        with pytest.raises(Refused):
            platform.add("next", 99, shadow=False)
        assert list(held(platform)) == ["champion"]

    def test_who_failed_nothing_has_no_failures(self, platform: Platform) -> None:
        assert platform.failures().get(2, 0) == 0


def held(platform: Platform) -> dict[str, Arm]:
    """Return what is held, by name."""
    return {arm.name: arm for arm in platform.holds()}
