"""What each step depended on the last time, to say later what has changed; losing it is harmless."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from charkha.pipeline.reasons import FIRST, Parts, Reason, changes, said

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore
    from charkha.pipeline.units import Unit


class Memory(Protocol):
    """Says why a step has to run, by what it was made of before."""

    def because(self, unit: Unit) -> list[Reason]:
        """Return what differs from the last time; that it is the first, where nothing is known."""
        ...

    def keep(self, unit: Unit) -> None:
        """Remember what this unit was made of."""
        ...

    def is_new(self, hint: str, unit: Unit) -> bool:
        """Whether this was never said of the step before; from now on it was."""
        ...

    def save(self) -> None:
        """Write down what was kept."""
        ...


def difference(was: Parts | None, unit: Unit) -> list[Reason]:
    """Return why a unit has to run that was last made of these parts."""
    if was is None:
        return [FIRST]
    return changes(was, unit.parts) or [said("absent", "its result is not in the cache")]


class FileMemory:
    """A pipeline's memory in one file of this machine, written when a run ends.

    `lent` is what another machine knew, for one that has no file.
    """

    def __init__(
        self, folder: Path, pipeline: str, lent: Callable[[], Mapping[str, Parts]] = dict
    ) -> None:
        self._file = folder / f"{pipeline.replace(':', '.').replace(os.sep, '.')}.json"
        self._parts: dict[str, Parts] = {}
        self._hints: list[str] = []
        self._changed = False
        try:
            kept = json.loads(self._file.read_bytes())
            self._parts, self._hints = kept["parts"], kept["hints"]
        except FileNotFoundError:
            self._parts = dict(lent())
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def because(self, unit: Unit) -> list[Reason]:
        return difference(self.parts(unit), unit)

    def all(self) -> dict[str, Parts]:
        """Return what every step was made of before, by name."""
        return self._parts

    def parts(self, unit: Unit) -> Parts | None:
        """Return what it was made of before; None where that is not known."""
        return self._parts.get(unit.name)

    def keep(self, unit: Unit) -> None:
        if self._parts.get(unit.name) != unit.parts:
            self._parts[unit.name] = unit.parts
            self._changed = True

    def is_new(self, hint: str, unit: Unit) -> bool:
        text = f"{unit.node.name}: {hint}"
        if text in self._hints:
            return False
        self._hints.append(text)
        self._changed = True
        return True

    def save(self) -> None:
        if not self._changed:
            return
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.partial")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"parts": self._parts, "hints": self._hints}))
            partial.replace(self._file)


class SharedMemory:
    """A memory for all machines that reach the blobs: one note for each step.

    Tasks of one run write at the same time, so the file of this machine is only read.
    """

    def __init__(self, blobs: BlobStore, pipeline: str, here: FileMemory) -> None:
        self._blobs, self._pipeline, self._here = blobs, pipeline, here

    def because(self, unit: Unit) -> list[Reason]:
        return difference(self.parts(unit), unit)

    def parts(self, unit: Unit) -> Parts | None:
        """Return what it was made of before, anywhere; None where that is not known."""
        was = self._parts(unit)
        return self._here.parts(unit) if was is None else was

    def keep(self, unit: Unit) -> None:
        name, now = self._name(unit), json.dumps(unit.parts, sort_keys=True).encode()
        known = self._blobs.notes(name)
        if known[-1:] != [now]:
            self._blobs.note(name, now)
            for older in known:
                if older != now:
                    self._blobs.unnote(name, older)

    def is_new(self, hint: str, unit: Unit) -> bool:
        return self._here.is_new(hint, unit)

    def save(self) -> None:
        pass

    def _parts(self, unit: Unit) -> Parts | None:
        for kept in reversed(self._blobs.notes(self._name(unit))):
            with suppress(ValueError):
                parts: Parts = json.loads(kept)
                return parts
        return None

    def _name(self, unit: Unit) -> str:
        return sha256(f"last {self._pipeline} {unit.name}".encode()).hexdigest()


if TYPE_CHECKING:
    _here: Memory = FileMemory(Path(), "")
