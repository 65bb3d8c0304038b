"""Whether a turn may release its candidate: not what was taken back before, unless a person asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from charkha.clock import to_second
from charkha.release.plan import TERMINAL

if TYPE_CHECKING:
    from charkha.ledger import Decision
    from charkha.loop.triggers import Kind
    from charkha.models.registries.port import ModelVersion

KINDS = ("release", "promotion", "rollback")  # of decisions that are a word on a version


def taken_back(
    candidate: ModelVersion,
    versions: Sequence[ModelVersion],
    told: Sequence[Decision],
    trigger: Kind,
) -> str | None:
    """Return why a candidate is not released again; None where it may be.

    Training again without anything new makes the same package. What the judge or a person has taken
    back stays back, until a person asks for a turn, or promotes it.

    Args:
        candidate: the version that a run made, or found.
        versions: all of the model: those of the same package are the same candidate.
        told: decisions of `KINDS` about the model, in any order.
        trigger: of the turn.
    """
    if trigger == "person":
        return None
    numbers = {candidate.version}
    numbers |= {v.version for v in versions if candidate.package and v.package == candidate.package}
    words = [word for d in sorted(told, key=lambda d: d.at) for word in _words(d, numbers)]
    return words[-1] if words else None


def _words(decision: Decision, versions: set[int]) -> Iterator[str | None]:
    """Yield why a decision takes one of the versions back; None where it stands up for it."""
    numbers, at = decision.numbers, to_second(decision.at)
    if decision.kind == "release":
        if numbers.get("to") in versions and numbers.get("phase") in TERMINAL:
            said = f"release {numbers.get('release')} of {decision.subject} was {numbers['phase']}"
            back = numbers["phase"] != "promoted"
            yield f"{said} at {at}: {decision.because}" if back else None
    elif decision.kind == "rollback" and numbers.get("from") in versions:
        yield (
            f"version {numbers['from']} was rolled back at {at} by {decision.who}: "
            f"{decision.because}"
        )
    elif decision.kind == "promotion" and numbers.get("to") in versions:
        yield None
