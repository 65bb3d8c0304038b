"""Variants: the versions that one server holds, and which of them answers a request.

A request goes to the variant with the highest score by weighted rendezvous hashing (Schindelhauer
and Schomaker 2005): -share / ln(h), h a hash of the key and the variant's name in (0, 1). So shares
come out as asked, the same key finds the same variant in every process, and when shares change
only as many keys move as have to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING

from charkha.serving.dialects.choice import make_dialect
from charkha.serving.shadows import Backlog

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect
    from charkha.serving.lanes import Ask, Lane
    from charkha.serving.loading import ServedModel
    from charkha.serving.metrics import Meter


class Variant:
    """A version that is loaded and takes requests under a name, or follows them as a shadow."""

    __slots__ = ("_backlog", "_dialects", "in_flight", "lane", "meter", "model", "name")

    def __init__(self, name: str, model: ServedModel, lane: Lane, meter: Meter) -> None:
        self.name, self.model, self.lane, self.meter = name, model, lane, meter
        self.in_flight = 0  # requests; of the event loop alone
        self._dialects: dict[str, Dialect] = {}
        self._backlog = Backlog(model.schema.columns, lane, meter)

    def dialect(self, name: str) -> Dialect:
        """Return this variant's own reader and writer of a protocol, made at its first use."""
        found = self._dialects.get(name)
        if found is None:
            found = self._dialects[name] = make_dialect(name, self.model, self.name)
        return found

    def follow(self, ask: Ask, answered_by: Variant) -> None:
        """As a shadow: take the rows that another variant has answered. Raises nothing."""
        self._backlog.take(ask, answered_by.model.version, answered_by.model.schema.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Routes:
    """Who takes what, as a whole: it is replaced, never changed."""

    live: tuple[Variant, ...]
    shares: tuple[float, ...]  # of the live variants, any positive scale
    shadows: tuple[Variant, ...] = ()

    def choose(self, key: bytes) -> Variant:
        """Return the variant that answers a request with this key."""
        if len(self.live) == 1:
            return self.live[0]
        return self.live[self._rendezvous.find(key)]

    def of_version(self, version: str) -> Variant | None:
        """Return the first variant that holds this version, or None."""
        return next((v for v in self.live if str(v.model.version) == version), None)

    @cached_property
    def _rendezvous(self) -> Rendezvous:
        return Rendezvous([variant.name for variant in self.live], self.shares)


class Rendezvous:
    """Finds the variant for a key: the same one in every process.

    Args:
        names: of the variants.
        shares: of each, at least 0 and not all 0; one with no share is never found.
    """

    def __init__(self, names: Sequence[str], shares: Sequence[float]) -> None:
        # A hash that has read the name already is copied for each key: half the price of a new one.
        self._begun = [
            (index, -share, blake2b(digest_size=8, key=name.encode()[:64]))
            for index, (name, share) in enumerate(zip(names, shares, strict=True))
            if share > 0
        ]

    def find(self, key: bytes) -> int:
        """Return the index of the variant."""
        best, found = -1.0, 0
        for index, weight, begun in self._begun:
            hashed = begun.copy()
            hashed.update(key)
            # 52 bits and a half, so that neither 0 nor 1 comes out, whose logarithms would not do
            drawn = ((int.from_bytes(hashed.digest()) >> 12) + 0.5) * 2**-52
            score = weight / log(drawn)
            if score > best:
                best, found = score, index
        return found


class Switch:
    """Holds the routes of a server; requests read them once, at their start."""

    def __init__(self, routes: Routes | None = None) -> None:
        self.routes = routes or Routes(live=(), shares=())
