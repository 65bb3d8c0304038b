"""A platform in memory: for the tests of a project that releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from charkha.errors import Refused
from charkha.release.platforms.port import Arm

if TYPE_CHECKING:
    from charkha.release.platforms.port import Platform


class MemoryPlatform:
    """Holds what it is told.

    Args:
        version: that answers at the beginning, as `champion`, which follows that alias.
    """

    def __init__(self, version: int) -> None:
        self._arms = {
            "champion": Arm(name="champion", version=version, share=100.0, follows="champion")
        }
        self._failures: dict[int, int] = {}
        self.broken: set[int] = set()  # versions that it cannot load

    def holds(self) -> tuple[Arm, ...]:
        return tuple(self._arms.values())

    def add(self, name: str, version: int, *, shadow: bool) -> None:
        known = self._arms.get(name)
        if known is not None:
            if (known.version, known.shadow) != (version, shadow):
                raise Refused(f"there is a variant {name!r} already", fix="drop it first")
            return
        if version in self.broken:
            raise Refused(f"version {version} cannot be loaded")
        self._arms[name] = Arm(name=name, version=version, share=0.0, shadow=shadow)

    def set_shares(self, shares: Mapping[str, float]) -> None:
        live = {name for name, arm in self._arms.items() if not arm.shadow}
        total = sum(shares.values())
        if not shares.keys() <= live or total <= 0:
            raise Refused(f"{dict(shares)} cannot be the shares of {sorted(live)}")
        for name in live:
            share = shares.get(name, 0.0) / total * 100
            self._arms[name] = replace(self._arms[name], share=share)

    def drop(self, name: str) -> None:
        arm = self._arms.get(name)
        if arm is not None and arm.share == sum(a.share for a in self._arms.values()):
            raise Refused("nobody would answer")
        self._arms.pop(name, None)

    def failures(self) -> Mapping[int, int]:
        return dict(self._failures)

    def fail(self, version: int, count: int) -> None:
        """Have a version fail so many requests."""
        self._failures[version] = self._failures.get(version, 0) + count

    def move(self, alias: str, version: int) -> None:
        """Move an alias of the registry: who follows it changes the version."""
        for name, arm in self._arms.items():
            if arm.follows == alias:
                self._arms[name] = replace(arm, version=version)


if TYPE_CHECKING:
    _platform: Platform = MemoryPlatform(1)
