"""Changes to what a server should hold: pure rules, and why something cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Literal

from charkha.errors import UserError
from charkha.models.registries.port import ModelVersion
from charkha.serving.wanted import NAME, Asked, Variants, WantedVariant, is_name

MOST = 16  # variants; each is in every worker's memory


class Impossible(UserError):
    """A change that cannot be made, and what of the request is in its way."""

    def __init__(
        self,
        what: str,
        *,
        kind: Literal["unknown", "conflict", "invalid"],
        field: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what, fix=fix)
        self.kind, self.field = kind, field  # field: the name of the request's


def check(variants: Variants) -> Variants:
    """Return the variants, if a server can hold them.

    Raises:
        Impossible: nobody would answer, two have one name, a name or a share is none.
    """
    if len(variants) > MOST:
        raise Impossible(f"a server holds at most {MOST} variants", kind="conflict", fix="drop one")
    seen: set[str] = set()
    for variant in variants:
        if not is_name(variant.name):
            said = f"a variant cannot be called {variant.name!r}"
            raise Impossible(said, kind="invalid", field="name", fix=f"it has to match {NAME}")
        if variant.name in seen:
            said = f"there is a variant {variant.name!r} already"
            fix = f"call this one otherwise, or drop {variant.name!r} first"
            raise Impossible(said, kind="conflict", field="name", fix=fix)
        if not (isfinite(variant.share) and variant.share >= 0):
            said = f"{variant.name} cannot have the share {variant.share:g}"
            raise Impossible(said, kind="invalid", field="share", fix="give a number, at least 0")
        seen.add(variant.name)
    if not any(variant.share > 0 for variant in variants if not variant.shadow):
        raise Impossible(
            "no variant would answer: none would have a share",
            kind="conflict",
            fix="give one of them a share",
        )
    return variants


def with_shares(variants: Variants, shares: Mapping[str, float]) -> Variants:
    """Return the variants with other shares, one for each that answers.

    Raises:
        Impossible: a name is unknown, a shadow's, or left out; or all shares are 0.
    """
    live = {variant.name for variant in variants if not variant.shadow}
    for name in shares:
        if name not in live:
            shadow = name in {variant.name for variant in variants}
            said = f"{name!r} is a shadow and takes no share" if shadow else _unknown(name, live)
            raise Impossible(said, kind="invalid", field=name)
    for name in sorted(live - set(shares)):
        raise Impossible(
            f"{name!r} has no share", kind="invalid", field=name, fix="give it 0 to give it nothing"
        )
    return check(tuple(v if v.shadow else replace(v, share=shares[v.name]) for v in variants))


def with_variant(variants: Variants, new: WantedVariant) -> Variants:
    """Return the variants and one more.

    Raises:
        Impossible: its name is taken or none; there are too many.
    """
    return check((*variants, new))


def without(variants: Variants, name: str) -> Variants:
    """Return the variants but one.

    Raises:
        Impossible: there is no such variant, or nobody would be left to answer.
    """
    if name not in {variant.name for variant in variants}:
        known = {variant.name for variant in variants}
        raise Impossible(_unknown(name, known), kind="unknown", field="name")
    return check(tuple(variant for variant in variants if variant.name != name))


def with_versions(variants: Variants, versions: Mapping[str, ModelVersion]) -> Variants:
    """Return the variants, those named on other versions."""
    return tuple(
        replace(v, version=versions[v.name].version, package=str(versions[v.name].package))
        if v.name in versions
        else v
        for v in variants
    )


def wanted_variant(asked: Asked, version: ModelVersion) -> WantedVariant:
    """Return what a server should hold for what a command line, or a request, asks.

    Raises:
        Impossible: the version has no package.
    """
    if version.package is None:
        raise Impossible(
            f"{version} has no package: it was registered without Charkha",
            kind="invalid",
            field="version" if asked.which.isdigit() else "alias",
            fix="register(model, …) in the pipeline makes versions that Charkha can serve",
        )
    return WantedVariant(
        name=asked.name,
        version=version.version,
        package=version.package,
        share=0.0 if asked.shadow else asked.share,
        shadow=asked.shadow,
        follows=None if asked.which.isdigit() else asked.which,
    )


def _unknown(name: str, known: set[str]) -> str:
    return f"no variant is called {name!r}: there is {', '.join(sorted(known))}"
