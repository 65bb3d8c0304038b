"""From who answers to who should: the next single change, as a pure function.

During a release the version before is pinned under a name of its own before the registry's alias moves,
as the variant that follows the alias changes its version with it. At the end that variant answers
again, and what the release has added goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from charkha.models.registry import CHAMPION
from charkha.release import plan as plans
from charkha.release.kept import Release
from charkha.release.platforms.port import Arm

_CLOSE = 1e-6  # of 100; shares are told as parts of a sum


class Add(NamedTuple):
    """Hold a version."""

    name: str
    version: int
    shadow: bool


class Shares(NamedTuple):
    """Share the traffic."""

    shares: Mapping[str, float]


class Drop(NamedTuple):
    """Hold a version no longer."""

    name: str


Act = Add | Shares | Drop


def own_name(version: int) -> str:
    """Return what a release calls the variant that it pins to a version."""
    return f"release-{version}"


def next_act(release: Release, arms: Sequence[Arm]) -> Act | None:
    """Return the next change towards what the release's state asks for; None where all is so."""
    held = {arm.name: arm for arm in arms}
    if release.decided:
        return _at_the_end(release, held)
    traffic = plans.traffic(release.plan, release.state)
    candidate, home = own_name(release.candidate), held.get(release.home)
    pinned = release.state.phase == "watching" or home is None or home.version != release.baseline
    baseline = own_name(release.baseline) if pinned else release.home
    wanted = {candidate: (release.candidate, traffic.shadow == "candidate")}
    if pinned:
        wanted[baseline] = (release.baseline, traffic.shadow == "baseline")
    shares = {
        name: share
        for name, share in ((baseline, traffic.baseline), (candidate, traffic.candidate))
        if not wanted.get(name, (0, False))[1]
    }
    return _towards(held, wanted, shares)


def _towards(
    held: Mapping[str, Arm], wanted: Mapping[str, tuple[int, bool]], shares: Mapping[str, float]
) -> Act | None:
    """Add what is lacking, then share, and make a live one a shadow only once it has no share."""
    for name, (version, shadow) in wanted.items():
        arm = held.get(name)
        if arm is None:
            return Add(name, version, shadow)
        if arm.shadow and not shadow:
            return Drop(name)  # nobody waits for a shadow; it is added again, and can answer then
    if not _shared(held, shares):
        return Shares(shares)
    for name, (_, shadow) in wanted.items():
        if shadow and not held[name].shadow:
            return Drop(name)
    return None


def _at_the_end(release: Release, held: Mapping[str, Arm]) -> Act | None:
    promoted = release.state.phase == "promoted"
    target = release.candidate if promoted else release.baseline
    home, own = held.get(release.home), own_name(target)
    names = [own_name(v) for v in (release.baseline, release.candidate)]
    if home is not None and home.version == target:
        if not _shared(held, {release.home: 100.0}):
            return Shares({release.home: 100.0})
        return next((Drop(name) for name in names if name in held), None)
    # The alias has not moved yet, or nobody follows it: the pinned one answers until then.
    act = _towards(held, {own: (target, False)}, {own: 100.0})
    if act is not None:
        return act
    other = next(name for name in names if name != own)
    return Drop(other) if other in held else None


def waits_for_home(release: Release, arms: Sequence[Arm], champion: int | None) -> bool:
    """Whether the variant that follows the champion has yet to come to the release's version."""
    target = release.candidate if release.state.phase == "promoted" else release.baseline
    home = next((arm for arm in arms if arm.name == release.home), None)
    if home is None or home.follows != CHAMPION or champion != target:
        return False
    return home.version != target


def _shared(held: Mapping[str, Arm], shares: Mapping[str, float]) -> bool:
    return all(
        abs(arm.share - shares.get(name, 0.0)) < _CLOSE
        for name, arm in held.items()
        if not arm.shadow
    )
