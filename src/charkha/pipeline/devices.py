"""Which GPUs a step gets and which steps wait, decided from what is asked for and what is free.

Amounts are thousandths of a device, in which thirds and tenths add up. A part goes where least is
left over, so that whole devices stay free. The first step that has to wait keeps the devices that
are nearest to being free for itself; those behind it may use the others, so it is not overtaken for
ever, and nothing stands idle that it could not use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WHOLE = 1000
CUDA, HIP, SHARE = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CHARKHA_GPU_SHARE"
_UUID = len("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU of this machine, as its driver tells of it."""

    index: int  # in the order of the bus
    model: str
    uuid: str
    parts: tuple[str, ...] = ()  # UUIDs of its MIG instances


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU that steps may use."""

    id: str  # as CUDA_VISIBLE_DEVICES calls it
    lock: str  # what every run of this machine calls it, as far as that can be told


def problem(gpu: float | None) -> str | None:
    """Return what is wrong with `gpu=` of a step; None where nothing is."""
    if gpu is None or (math.isfinite(gpu) and (0 <= gpu <= 1 or (gpu > 1 and gpu % 1 == 0))):
        return None
    return f"asks for gpu={gpu:g}, which is neither a part of one device nor whole ones"


def amount(gpu: float) -> int:
    """Return how many thousandths `gpu=` of a step asks for: rounded down, so that six sixths fit."""
    return max(1, int(gpu * WHOLE + 1e-6))


def turns(asked: Sequence[int], free: Mapping[str, int]) -> list[tuple[str, ...] | None]:
    """Return for each amount, those who came first standing first, its devices; None: it waits.

    Args:
        asked: amounts; up to WHOLE on one device, more than that on several whole ones.
        free: what is left of each device, in the order in which whole ones are taken.
    """
    left, kept = dict(free), frozenset[str]()
    found: list[tuple[str, ...] | None] = []
    for wanted in asked:
        devices = _fit(wanted, {name: n for name, n in left.items() if name not in kept})
        for name in devices or ():
            left[name] -= min(wanted, WHOLE)
        if devices is None and not kept:
            kept = _nearest(wanted, left)
        found.append(devices)
    return found


def _fit(wanted: int, left: Mapping[str, int]) -> tuple[str, ...] | None:
    if wanted < WHOLE:
        fitting = [name for name, n in left.items() if n >= wanted]
        return (min(fitting, key=left.__getitem__),) if fitting else None
    whole = [name for name, n in left.items() if n == WHOLE]
    count = wanted // WHOLE
    return tuple(whole[:count]) if len(whole) >= count else None


def _nearest(wanted: int, left: Mapping[str, int]) -> frozenset[str]:
    """Return the devices that have to become free for it; none where there are too few."""
    count = max(1, wanted // WHOLE)
    if count > len(left):
        return frozenset()
    return frozenset(sorted(left, key=left.__getitem__, reverse=True)[:count])


def visible(text: str) -> list[str]:
    """Return the devices that CUDA_VISIBLE_DEVICES names: as CUDA does, up to what is none."""
    found: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if not (entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))):
            break  # "", "-1", "NoDevFiles" of Slurm
        if entry not in found:
            found.append(entry)
    return found


def all_of(cards: Sequence[Card]) -> list[Device]:
    """Return every device of a machine; of a card that is divided, its parts."""
    names = [name for card in cards for name in (card.parts or (card.uuid,))]
    return [Device(id=name, lock=name) for name in names]


def named(entries: Sequence[str], cards: Sequence[Card], *, by_bus: bool) -> list[Device]:
    """Return devices that are called by these entries.

    A number is CUDA's, whose order is that of the bus where `CUDA_DEVICE_ORDER` says so, and else by
    speed. Where all cards are alike that is no difference; otherwise the number stays its name.
    """
    numbered = {str(card.index): card.uuid for card in cards}
    if any(card.parts for card in cards) or not (by_bus or len({c.model for c in cards}) == 1):
        numbered = {}
    uuids = [name for card in cards for name in (card.uuid, *card.parts)]
    locks = {_lock(entry, numbered, uuids): entry for entry in reversed(entries)}
    return [Device(id=entry, lock=lock) for lock, entry in reversed(locks.items())]


def _lock(entry: str, numbered: Mapping[str, str], uuids: Sequence[str]) -> str:
    begun = [uuid for uuid in uuids if uuid.startswith(entry)]
    return numbered.get(entry) or (begun[0] if len(begun) == 1 else entry)


def is_whole(entry: str) -> bool:
    """Whether an entry is a whole UUID, of which there is one name only."""
    return len(entry) >= _UUID
