"""What was computed before, under the key of everything it depended on.

An entry is a note in the blob store, under its key, so folder and S3 need no index and no lock. One
key can have several entries: they differ in what was observed while the step ran (files it opened,
variables it read), and an entry counts only while all of that is still as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from charkha.data.blobs.port import BlobStore
from charkha.pipeline.artifacts import Artifact, Artifacts
from charkha.pipeline.observe import Observed, World
from charkha.pipeline.reasons import Reason, observed_change


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One result: its outputs, and what it is valid for."""

    key: str
    step: str
    run: str  # that computed it
    outputs: dict[str, Artifact]
    captured: dict[str, Artifact] = field(default_factory=dict)
    observed: Observed = field(default_factory=Observed)
    seconds: float = 0.0

    def as_bytes(self) -> bytes:
        kept = {
            **vars(self),
            "outputs": {name: a.as_json() for name, a in self.outputs.items()},
            "captured": {name: a.as_json() for name, a in self.captured.items()},
            "observed": self.observed.as_json(),
        }
        return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Entry:
        """Raises: ValueError, KeyError, TypeError where the bytes are no entry."""
        kept = json.loads(data)
        for group in ("outputs", "captured"):
            kept[group] = {name: Artifact.from_json(a) for name, a in kept[group].items()}
        kept["observed"] = Observed.from_json(kept["observed"])
        return Entry(**kept)


@dataclass(kw_only=True)
class Found:
    """What a look-up brought: an entry, or why there is none."""

    entry: Entry | None = None
    because: list[Reason] = field(default_factory=list)  # what had changed in what was observed
    damage: list[str] = field(default_factory=list)  # entries that could not be used, in words


class Cache:
    """Looks entries up and commits them; `world` says how files and variables are now."""

    def __init__(self, blobs: BlobStore, artifacts: Artifacts, world: World) -> None:
        self._blobs, self._artifacts, self._world = blobs, artifacts, world

    def look_up(self, key: str) -> Found:
        found = Found()
        for record in reversed(self._blobs.notes(key)):
            try:
                entry = Entry.from_bytes(record)
            except (ValueError, KeyError, TypeError, AttributeError):
                self._blobs.unnote(key, record)
                found.damage.append("its entry in the cache was damaged")
                continue
            differences = list(self._differences(entry.observed))
            if differences:
                found.because = found.because or differences
            elif lost := [n for n, a in entry.outputs.items() if not self._artifacts.holds(a)]:
                self._blobs.unnote(key, record)
                found.damage.append(f"its stored output {lost[0]!r} is gone or cut short")
            else:
                found.entry = entry
                return found
        return found

    def commit(self, entry: Entry) -> None:
        """Keep an entry; from here on every run can reuse it."""
        self._blobs.note(entry.key, entry.as_bytes())

    def _differences(self, observed: Observed) -> Iterator[Reason]:
        for kind, names in vars(observed).items():
            for name, was in cast("dict[str, str | None]", names).items():
                now = self._world.now(kind, name)
                if now != was:
                    yield observed_change(kind, name, was, now)
