"""Following the registry: which variants have to move because their alias has, and when to wait.

Pure rules. A version that could not be put in place is tried again after a while that doubles, and
at once where the alias stands for another version or package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from charkha.errors import UserError
from charkha.models.registries.port import ModelVersion
from charkha.serving.wanted import Variants

FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 3600.0


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A version that could not be put in place."""

    version: int
    package: str
    why: str
    tries: int
    at: float  # unix seconds, of the last try
    again_at: float  # unix seconds


def choose(versions: Sequence[ModelVersion], model: str, which: str) -> ModelVersion:
    """Return the version that a number or an alias stands for.

    Raises:
        UserError: there is none; says which there are.
    """
    for version in versions:
        if which in (str(version.version), *version.aliases):
            return version
    if not versions:
        raise UserError(
            f"no model is called {model!r}",
            fix="charkha models shows which there are; charkha run, with register(…), makes one",
        )
    aliases = sorted({alias for version in versions for alias in version.aliases})
    known = ", ".join([*aliases, *(str(v.version) for v in reversed(versions))])
    what = f"version {which}" if which.isdigit() else which
    raise UserError(f"model {model!r} has no {what}", fix=f"use one of: {known}")


def moves(
    variants: Variants,
    versions: Iterable[ModelVersion],
    troubles: Mapping[str, Trouble],
    now: float,
) -> dict[str, ModelVersion]:
    """Return the variants that have to move, with the version of each.

    An alias that nobody has any more moves nothing, nor does a version without a package.

    Args:
        variants: that are held.
        versions: as the registry has them.
        troubles: of earlier tries, by the variant's name.
        now: unix seconds.
    """
    meant = {alias: version for version in versions for alias in version.aliases}
    moving: dict[str, ModelVersion] = {}
    for variant in variants:
        target = meant.get(variant.follows or "")
        if target is None or target.package is None:
            continue
        if (target.version, target.package) == (variant.version, variant.package):
            continue
        trouble = troubles.get(variant.name)
        if trouble is None or not _is_of(trouble, target) or now >= trouble.again_at:
            moving[variant.name] = target
    return moving


def lasting(
    troubles: Mapping[str, Trouble], variants: Variants, versions: Iterable[ModelVersion]
) -> dict[str, Trouble]:
    """Return the troubles that are still there: their variant is, and its alias has not moved."""
    meant = {alias: version for version in versions for alias in version.aliases}
    follows = {variant.name: meant.get(variant.follows or "") for variant in variants}
    left = {}
    for name, trouble in troubles.items():
        target = follows.get(name)
        if target is not None and _is_of(trouble, target):
            left[name] = trouble
    return left


def another_trouble(
    before: Trouble | None, version: int, package: str, why: str, now: float
) -> Trouble:
    """Return what is remembered of a version that could not be put in place."""
    again = before is not None and (before.version, before.package) == (version, package)
    tries = before.tries + 1 if before is not None and again else 1
    wait_s = min(FIRST_WAIT_S * 2 ** min(tries - 1, 20), LONGEST_WAIT_S)
    return Trouble(
        version=version, package=package, why=why, tries=tries, at=now, again_at=now + wait_s
    )


def _is_of(trouble: Trouble, target: ModelVersion) -> bool:
    return (trouble.version, trouble.package) == (target.version, target.package)
