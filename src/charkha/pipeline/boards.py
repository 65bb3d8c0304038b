"""A run that others start the tasks of: its graph and its events, as notes beside the bytes.

Tasks of one run may be on many machines that share nothing but the blobs. Each posts what happens
to its steps, each step's events in a part of their own, so that a task reads those of the steps
before it and no more, and who follows the run reads all of them in one look. Only the run's id and
the steps' names travel through an engine.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from charkha.data.blobs import open_blobs
from charkha.errors import NotFound
from charkha.events import Event, RunFinished, RunStarted
from charkha.pipeline.graph import Graph
from charkha.pipeline.journal import Line, as_bytes, from_bytes

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a run began with."""

    at: float  # seconds since 1970
    engine: str
    started: RunStarted
    graph: Graph


class Board:
    """One run's graph and events, for everybody who reaches the blobs.

    Args:
        blobs: where its notes are.
        run: its id.
        owner: whose run it is, as two schedules that share a bucket may call theirs the same.
    """

    def __init__(self, blobs: BlobStore, run: str, owner: str) -> None:
        self.run, self.blobs, self._owner = run, blobs, owner

    def open(self, engine: str, started: RunStarted, graph: Graph) -> Opening:
        """Begin the run, or return how it was begun where it was: the first one counts."""
        with suppress(NotFound):
            return self.opening()
        key = self.blobs.put(io.BytesIO(json.dumps(graph.as_json(), sort_keys=True).encode()))
        at = round(time.time(), 6)
        kept = {"at": at, "engine": engine, "graph": key, "started": started._asdict()}
        self.blobs.note(self._name("opening"), json.dumps(kept).encode())
        return self.opening()

    def opening(self) -> Opening:
        """Return what the run began with.

        Raises:
            NotFound: nobody has begun it.
        """
        kept = [json.loads(note) for note in self.blobs.notes(self._name("opening"))]
        if not kept:
            raise NotFound(
                f"nobody has begun a run {self.run}", fix=f"charkha step start --run {self.run}"
            )
        first = min(kept, key=lambda one: one["at"])
        with self.blobs.open(first["graph"]) as blob:
            graph = Graph.from_json(json.load(blob))
        started = RunStarted(**first["started"])
        return Opening(at=first["at"], engine=first["engine"], started=started, graph=graph)

    def post(self, step: str, event: Event) -> None:
        """Tell what happened to a step, or to one element of its fan-out."""
        line = Line(round(time.time(), 6), event)
        self.blobs.note(self._step(step), as_bytes(line))

    def end(self, event: RunFinished) -> None:
        """Tell how the run ended; the first who says so is right."""
        self.blobs.note(self._name("end"), as_bytes(Line(round(time.time(), 6), event)))

    def events(self, steps: Iterable[str] | None = None) -> list[Line]:
        """Return what was told of these steps so far, in order of time; damaged notes are left out.

        Args:
            steps: each costs a look into the blobs; all of the run's, without it, cost one.
        """
        names = [self._name("step")] if steps is None else map(self._step, steps)
        found = []
        for name in names:
            for note in self.blobs.notes(name):
                with suppress(ValueError, KeyError, TypeError):
                    found.append(from_bytes(note))
        return sorted(found, key=lambda line: line.at)

    def reopen(self) -> bool:
        """Take back how the run ended, as steps of it run again; return whether it had ended."""
        had = self.ended() is not None
        for name in (self._name("kept", "stopped"), self._name("end")) if had else ():
            for note in self.blobs.notes(name):
                self.blobs.unnote(name, note)
        return had

    def ended(self) -> Line | None:
        """Return how the run ended; None while it goes on."""
        ends = [from_bytes(note) for note in self.blobs.notes(self._name("end"))]
        return min(ends, key=lambda line: line.at, default=None)

    def lines(self) -> list[Line]:
        """Return the whole story so far, as a journal has it."""
        opening, end = self.opening(), self.ended()
        told = [Line(opening.at, opening.started), *self.events()]
        return [*told, end] if end else told

    def keep(self, name: str, value: Mapping[str, object]) -> None:
        """Keep something else that people ask a run for, such as what MLflow made of it."""
        kept = {"at": time.time(), "value": value}
        self.blobs.note(self._name("kept", name), json.dumps(kept).encode())

    def kept(self, name: str) -> dict[str, object] | None:
        """Return what was kept under a name last."""
        notes = [json.loads(note) for note in self.blobs.notes(self._name("kept", name))]
        newest = max(notes, key=lambda one: float(one["at"]), default=None)
        return newest["value"] if newest else None

    def _step(self, step: str) -> str:
        return self._name("step", sha256(step.encode()).hexdigest()[:16])

    def _name(self, *parts: str) -> str:
        own = sha256("/".join((self._owner, "run", self.run)).encode()).hexdigest()
        return "/".join((own, *parts))


def open_board(project: Project, run: str) -> Board:
    """Return the board of a run in the project's blobs."""
    return Board(open_blobs(project), run, f"{project.name} {project.environment}")
