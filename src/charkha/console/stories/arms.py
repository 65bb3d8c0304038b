"""Why this variant answered: the shares of that time, and what the request's own id draws from them.

A record keeps the variant and not the key it was drawn by. So the draw is done again with the id: if
it falls on the variant that answered, that is why; if not, the caller sent a key of its own, asked for
the version by its number, or the row was not the first of its request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charkha.clock import to_second
from charkha.console.stories.happened import whole
from charkha.console.stories.placing import percent
from charkha.console.stories.story import Fact, Story, span
from charkha.release.routing import own_name
from charkha.serving.variants import Rendezvous

if TYPE_CHECKING:
    from charkha.console.stories.happened import Released
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.recorded import Recorded
    from charkha.console.stories.sources import Held

_SETTLES_S = 10.0  # after a decision shares may not be in place yet


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A variant as it was held at a moment."""

    name: str
    version: int
    share: float
    shadow: bool = False


@dataclass(frozen=True, kw_only=True)
class Known:
    """Who was held at a moment, and how that is known."""

    arms: tuple[Arm, ...]
    because: str
    settling_s: float | None = None  # so long before, another state was decided on


def arms_of_release(released: Released, entry: Entry, champion: int | None) -> Known | None:
    """Return who was held while a decision of a release held; None where its shares are not kept."""
    told = entry.numbers.get("traffic")
    if not isinstance(told, dict) or released.baseline is None or released.candidate is None:
        return None
    pinned = entry.numbers.get("phase") == "watching" or champion not in (None, released.baseline)
    before = own_name(released.baseline) if pinned else entry.text("home")
    arms = [
        Arm(name=name, version=version, share=float(told[arm]), shadow=told["shadow"] == arm)
        for name, version, arm in (
            (before, released.baseline, "baseline"),
            (own_name(released.candidate), released.candidate, "candidate"),
        )
    ]
    because = f"as release {released.id} had decided on {to_second(entry.when)}"
    return Known(arms=tuple(arms), because=because)


def arms_of_file(held: Held | None, at: float) -> Known | None:
    """Return who was held by the server's file, if it has not changed since that moment."""
    if held is None or held.since > at:
        return None
    arms = tuple(_arm(said) for said in held.variants)
    return Known(arms=arms, because=f"as the server has held since {to_second(held.since)}")


def tell_arm(record: Recorded, known: Known | None) -> Story:
    """Return the part of a story that says why this variant answered."""
    arms = known.arms if known else ()
    own = next((arm for arm in arms if arm.name == record.variant), None)
    live = [arm for arm in arms if not arm.shadow]
    whole_share = sum(arm.share for arm in live)
    share = own.share / whole_share if own and not own.shadow and whole_share else None
    drawn = _drawn(record.id, live)
    facts = [
        Fact(name="variant", value=record.variant, text=""),
        Fact(name="role", value=record.role, text=""),
        Fact(name="share", value=None if share is None else round(share, 6), text=""),
        Fact(name="drawn", value=drawn, text=""),
        Fact(
            name="arms",
            value=[vars(arm) for arm in arms],
            text=", ".join(
                f"{arm.name} (version {arm.version}) "
                + ("as a shadow" if arm.shadow else _percent(arm.share, whole_share))
                for arm in arms
            )
            or "",
        ),
    ]
    if arms:
        facts[-1] = Fact(name="held then", value=facts[-1].value, text=facts[-1].text)
    return Story(
        kind="arm",
        id=record.variant,
        title=f"why variant {record.variant}",
        because=tuple(_why(record, known, own, share, drawn)),
        facts=tuple(facts),
    )


def _why(
    record: Recorded, known: Known | None, own: Arm | None, share: float | None, drawn: str | None
) -> list[str]:
    if record.role == "shadow":
        return ["as a shadow it followed the request and answered nobody"]
    if known is None:
        return [
            "what shares there were then is not kept: no release went on, and the server's file "
            "has changed since"
        ]
    if own is None:
        said = f"{record.variant} is none of the variants that were held, {known.because}"
        return [f"{said}; another server answered, or shares were being moved"]
    if share == 1:
        return [f"it had all the traffic, {known.because}"]
    had = "no share" if share is None else f"{percent(share)} of the traffic"
    told = [f"it had {had}, {known.because}"]
    if drawn == record.variant:
        told.append(
            "the request's own id finds it among them; whether the caller sent a charkha-key, which "
            "is drawn by instead, is not kept"
        )
    else:
        told.append(
            f"by its own id the request would have found {drawn}: so the caller sent a charkha-key "
            "that finds this one, asked for the version by its number, or this was not the first "
            "row of its request"
        )
    if known.settling_s is not None and known.settling_s < _SETTLES_S:
        told.append(
            f"that was decided {span(known.settling_s)} before, and may not have been in place yet"
        )
    return told


def _drawn(id: str, live: Sequence[Arm]) -> str | None:
    """Return which variant the id finds, as the server draws."""
    if not any(arm.share > 0 for arm in live):
        return None
    found = Rendezvous([arm.name for arm in live], [arm.share for arm in live]).find(id.encode())
    return live[found].name


def _arm(said: dict[str, Any]) -> Arm:
    return Arm(
        name=str(said.get("name")),
        version=whole(said.get("version")) or 0,
        share=float(said.get("share") or 0.0),
        shadow=bool(said.get("shadow")),
    )


def _percent(share: float, of: float) -> str:
    return percent(share / of) if of else "0 %"
