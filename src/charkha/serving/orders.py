"""Orders: what is decided for the workers of a server, carried out by all of them or by none.

A change that brings a version is done in two steps: every worker loads and checks it, then all swap.
So a version that fails on one of them takes no traffic on any. Each order stands in the file of
charkha.serving.wanted before anybody acts on it, and a lead that comes up after a kill starts there.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import IO

from charkha.errors import Bug, CharkhaError, Damaged, Refused, Unavailable
from charkha.serving.wanted import (
    Asked,
    Files,
    Report,
    Variants,
    Wanted,
    lanes,
    read,
    take_lock,
    write,
)

_LOOK_S = 0.02  # between two looks at the workers' reports


class Orders:
    """What one server's workers shall hold. Safe to use from several threads.

    Args:
        files: where it stands.
        workers: how many there are, numbered from 0.
        load_s: how long they may take to load and check a version.
        swap_s: how long they may take to put it in place.
    """

    def __init__(self, files: Files, *, workers: int, load_s: float, swap_s: float) -> None:
        self._files, self._workers = files, workers
        self._load_s, self._swap_s = load_s, swap_s
        self._server = uuid.uuid4().hex[:12]
        self._wanted: Wanted | None = None
        self._held: IO[str] | None = None
        self._writing, self._changing = threading.Lock(), threading.Lock()
        self.ended = threading.Event()

    @property
    def wanted(self) -> Wanted:
        """What they shall hold now."""
        if self._wanted is None:
            raise Bug("nothing was decided yet")
        return self._wanted

    def take(self) -> Wanted | None:
        """Take the lead; return what the last server should have held.

        Raises:
            Refused: another server has it.
            Damaged: that cannot be read; the lead is taken.
        """
        self._held = take_lock(self._files)
        self._files.tidy()
        return read(self._files.wanted, Wanted)

    def begin(
        self,
        variants: Variants,
        *,
        asked: tuple[Asked, ...],
        after: Wanted | None,
        instead: Variants | None = None,
    ) -> None:
        """Decide for workers that have yet to start.

        Args:
            variants: that they shall hold.
            asked: by the command line.
            after: what stood there before.
            instead: for a worker that cannot load `variants`.
        """
        self._wanted = Wanted(
            model=self._files.model,
            server=self._server,
            generation=0 if after is None else after.generation,
            variants=variants,
            asked=asked,
        )
        self._write(variants, instead=instead)

    def close(self) -> None:
        """Give the lead up: another server may take it while this one drains. Returns at once."""
        with self._writing:
            self.ended.set()
            if self._held is not None:
                self._held.close()

    def reports(self) -> dict[int, Report]:
        """Return what the workers have said, by their numbers."""
        found = {}
        for number in range(self._workers):
            with suppress(Damaged):
                report = read(self._files.report(self._server, number), Report)
                if report is not None:
                    found[number] = report
        return found

    def change(self, plan: Callable[[Variants], Variants]) -> None:
        """Carry a change out, or change nothing; `plan` makes the variants of those there are.

        Raises:
            Refused: a worker cannot load a version, or it failed its check; nothing has changed.
            Unavailable: a worker has not answered in time. Where no version had to be loaded, it is
                wanted all the same. Or the file cannot be written.
        """
        if not self._changing.acquire(timeout=self._swap_s):
            raise Unavailable("another change is under way", fix="come again in a moment")
        try:
            before = self.wanted.variants
            after = plan(before)
            if lanes(after) - lanes(before):
                self._prepare(before, after)
            if after != before:
                self._write(after)
            self._put_in_place(before)
        finally:
            self._changing.release()

    def settle(self) -> str | None:
        """See whether the workers have started with what was moved meanwhile; if not, all go back.

        Returns:
            Why one of them could not; None if all could.

        Raises:
            Unavailable: not all have started yet.
        """
        with self._changing:
            wanted = self.wanted
            if wanted.instead is None:
                return None
            try:
                self._wait_for(wanted.generation, 0.0)
            except Refused as e:
                self._write(wanted.instead)
                return e.what
            self._write(wanted.variants)
        return None

    def _prepare(self, before: Variants, after: Variants) -> None:
        """Have every worker load and check what is new."""
        coming = self._write(before, coming=after)
        try:
            self._wait_for(coming.generation, self._load_s)
        except CharkhaError:
            self._write(before)
            raise

    def _put_in_place(self, before: Variants) -> None:
        """Wait until every worker has what is wanted; if one cannot, all go back."""
        try:
            self._wait_for(self.wanted.generation, self._swap_s)
        except Refused:
            if self.wanted.variants != before:
                self._write(before)
            raise

    def _wait_for(self, generation: int, limit_s: float) -> None:
        """Wait until every worker has dealt with a generation.

        Raises:
            Refused: one could not do it.
            Unavailable: one has not done it in time.
        """
        until = time.monotonic() + limit_s
        while True:
            reports = self.reports()
            late = []
            for number in range(self._workers):
                report = reports.get(number)
                if report is None or report.generation < generation:
                    late.append(number)
                elif report.failed is not None and report.generation == generation:
                    raise Refused(f"worker {number} cannot take it: {report.failed}")
            if not late:
                return
            if self.ended.wait(_LOOK_S):
                raise Unavailable("the server is ending")
            if time.monotonic() > until:
                raise Unavailable(
                    f"worker {', '.join(map(str, late))} has not done it within {limit_s:g} s",
                    fix="GET /status tells how far each one is",
                )

    def _write(
        self,
        variants: Variants,
        *,
        coming: Variants | None = None,
        instead: Variants | None = None,
    ) -> Wanted:
        """Decide: from here on the workers shall hold this."""
        with self._writing:
            if self.ended.is_set():
                raise Unavailable("the server is ending")
            decided = replace(
                self.wanted,
                generation=self.wanted.generation + 1,
                variants=variants,
                coming=coming,
                instead=instead,
            )
            try:
                write(self._files.wanted, decided)
            except OSError as e:
                raise Unavailable(f"{self._files.wanted} cannot be written: {e.strerror}") from e
            self._wanted = decided
            return decided
