"""Control: a worker does what the lead's file wants, and goes on answering while it does.

New versions are loaded, warmed and held against their examples in a thread; then the routes are
swapped in one assignment, and what left answers what it was asked for and is let go. Until then
both are in memory. A version that fails changes nothing but the report.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charkha.errors import Bug, CharkhaError
from charkha.serving.background import in_background, in_thread
from charkha.serving.examples import Checked, load_checked
from charkha.serving.logs import event
from charkha.serving.memory import give_back
from charkha.serving.shadows import GivingWay
from charkha.serving.variants import Routes
from charkha.serving.wanted import Files, Held, Report, Variants, Wanted, WantedVariant, read, write

if TYPE_CHECKING:
    from charkha.project import Project
    from charkha.serving.loading import ServedModel
    from charkha.serving.variants import Switch, Variant

LOOK_S = 0.1  # between two looks at the file
_REPORT_S = 1.0  # between two reports where only numbers change
_LEAVE_S = 1.0  # until a lane that was closed has let go of its model
# How long the event loop waits for its turn while another thread runs Python code: one that loads a
# model, or a shadow. By default it is 5 ms, several times for each request.
_TURN_S = 0.0005
_log = logging.getLogger(__name__)

MakeVariant = Callable[[str, Literal["live", "shadow"], "ServedModel"], "Variant"]
_Key = tuple[str, int, str, bool]  # name, version, package, whether it is a shadow


@dataclass(frozen=True, kw_only=True)
class _Placed:
    variant: Variant
    loaded: Checked
    share: float
    since: float  # unix seconds


class Control:
    """Keeps a worker's routes as they are wanted. All of it belongs to the event loop.

    Args:
        project: where the packages come from.
        model: name of the model.
        switch: whose routes are set.
        make_variant: makes a variant with its lane and its meter, of its name, role and model.
        worker: its number, from 0.
        folder: where the lead's file lies; the project's own without one.
        report: called with each report that says something new.
    """

    def __init__(
        self,
        project: Project,
        model: str,
        switch: Switch,
        *,
        make_variant: MakeVariant,
        worker: int = 0,
        folder: Path | None = None,
        report: Callable[[Report], None] | None = None,
    ) -> None:
        self._project, self._switch, self._make = project, switch, make_variant
        self._files = Files(folder or project.state / "serving", model)
        self._worker, self._hook = worker, report
        self._placed: dict[_Key, _Placed] = {}
        self._prepared: dict[_Key, Checked] = {}  # for what is coming
        self._leaving: list[Variant] = []
        self._server, self._generation = "", 0
        self._failed: str | None = None
        self._reported: Report | None = None  # the newest, and the one that is written
        self._posted: Report | None = None
        self._posting = threading.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._doing: asyncio.Task[None] | None = None
        self._turn_s = sys.getswitchinterval()
        self.swaps = self.failures = 0  # since the start; for metrics

    @property
    def ready(self) -> bool:
        """Whether there is somebody to answer."""
        return bool(self._switch.routes.live)

    async def start(self) -> None:
        """Load and check what is wanted, and set the routes; then watch the file.

        Raises:
            CharkhaError: neither that nor what was held before can be loaded.
        """
        stamp = _stamp(self._files.wanted)
        wanted = read(self._files.wanted, Wanted)
        if wanted is None:
            raise Bug(f"nobody leads: there is no {self._files.wanted}")
        self._server = wanted.server
        sys.setswitchinterval(min(self._turn_s, _TURN_S))
        try:
            self._place(wanted.variants, await self._load(wanted.variants))
        except Exception as e:
            self._fail(wanted, e)
            if wanted.instead is None:
                await in_thread(self._post)  # before the process ends
                raise
            self._place(wanted.instead, await self._load(wanted.instead))
        self._generation = wanted.generation
        seen = stamp
        if wanted.coming is not None:  # at the first look
            self._generation, seen = wanted.generation - 1, None
        self._say()
        self._watching = asyncio.create_task(self._watch(seen))

    async def close(self, timeout_s: float) -> None:
        """Stop watching, let everything answer what it was asked for, and let it go."""
        for task in (self._watching, self._doing):
            if task is not None:
                task.cancel()
        self._leaving += [placed.variant for placed in self._placed.values()]
        self._placed, self._switch.routes = {}, Routes(live=(), shares=())
        leaving, until = list(self._leaving), time.monotonic() + timeout_s
        while self._leaving and time.monotonic() < until:
            self._drain()
            await asyncio.sleep(0.01)

        def join() -> None:  # shadows may still be at it
            for variant in leaving:
                variant.lane.join(max(0.0, until - time.monotonic()))

        await in_thread(join)
        sys.setswitchinterval(self._turn_s)

    async def _watch(self, seen: object) -> None:
        """Look at the file now and then; what is newer ends the work on what is older."""
        while True:
            try:
                stamp = _stamp(self._files.wanted)
                if stamp != seen:
                    seen = stamp
                    self._take_up(read(self._files.wanted, Wanted))
                self._drain()
                self._say()
            except Exception:  # noqa: BLE001  # a worker's loop: the next look may do better
                _log.exception("worker %d cannot follow what is wanted", self._worker)
            await asyncio.sleep(LOOK_S)

    def _take_up(self, wanted: Wanted | None) -> None:
        if wanted is None or wanted.server != self._server:  # a successor's; this one drains
            return
        if self._doing is not None:
            self._doing.cancel()
        self._doing = asyncio.create_task(self._follow(wanted))

    async def _follow(self, wanted: Wanted) -> None:
        """Do what the file wants, and say so; what fails is said too, and changes nothing."""
        try:
            self._place(wanted.variants, await self._load(wanted.variants))
            self._prepared = {} if wanted.coming is None else await self._load(wanted.coming)
        except Exception as e:  # noqa: BLE001  # a worker's loop: reported, and what is held stays
            self._fail(wanted, e)
        else:
            self._failed = None
        self._generation = wanted.generation
        self._say()

    async def _load(self, variants: Variants) -> dict[_Key, Checked]:
        """Return what each variant needs, loaded now where it is not there yet.

        Raises:
            CharkhaError: a version cannot be loaded, or is not what it was.
        """
        known = {key: placed.loaded for key, placed in self._placed.items()} | self._prepared
        missing = [v for v in variants if _key(v) not in known]
        if missing:
            known |= await in_thread(lambda: self._load_now(missing, known))
        return {_key(v): known[_key(v)] for v in variants}

    def _load_now(
        self, missing: list[WantedVariant], known: Mapping[_Key, Checked]
    ) -> dict[_Key, Checked]:
        """Load versions, in the thread; one that is there already is shared where it may be.

        ONNX Runtime answers several threads at once; of other libraries nobody knows, so each of
        their variants has a model of its own.
        """
        shared = {key[1:3]: found for key, found in known.items() if _may_be_shared(found.model)}
        made: dict[_Key, Checked] = {}
        for variant in missing:
            found = shared.get((variant.version, variant.package))
            if found is None:
                found = load_checked(self._project, self._files.model, variant)
                if _may_be_shared(found.model):
                    shared[variant.version, variant.package] = found
            made[_key(variant)] = found
        give_back()
        return made

    def _place(self, variants: Variants, loaded: Mapping[_Key, Checked]) -> None:
        """Swap the routes; what is not wanted any more leaves."""
        placed: dict[_Key, _Placed] = {}
        made: list[Variant] = []
        try:
            for wanted in variants:
                key, now = _key(wanted), self._placed.get(_key(wanted))
                if now is None:
                    new = self._made(wanted, loaded[key].model)
                    made.append(new)
                    now = _Placed(variant=new, loaded=loaded[key], share=0.0, since=time.time())
                placed[key] = replace(now, share=wanted.share)
        except BaseException:
            for variant in made:
                variant.lane.close()
            raise
        live = [each for key, each in placed.items() if not key[3]]
        self._switch.routes = Routes(
            live=tuple(each.variant for each in live),
            shares=tuple(each.share for each in live),
            shadows=tuple(each.variant for key, each in placed.items() if key[3]),
        )
        left = [each.variant for key, each in self._placed.items() if key not in placed]
        if self._placed and made:
            self.swaps += 1
            for variant in made:
                version = variant.model.version
                said = f"{variant.name} is version {version} now"
                event(_log, logging.INFO, "swapped", said, variant=variant.name, version=version)
        self._placed = placed
        self._leaving += left
        for variant in made:
            self._show(variant)
        self._drain()

    def _made(self, wanted: WantedVariant, model: ServedModel) -> Variant:
        if wanted.shadow:
            giving_way = GivingWay(model.predictor, self._busy)
            variant = self._make(wanted.name, "shadow", replace(model, predictor=giving_way))
        else:
            variant = self._make(wanted.name, "live", model)
            variant.dialect("named")  # the first request shall not be the slow one
        return variant

    def _busy(self) -> bool:
        """Whether somebody waits for an answer; asked from the shadows' threads."""
        return any(variant.in_flight for variant in self._switch.routes.live)

    def _show(self, variant: Variant) -> None:
        shadow = variant not in self._switch.routes.live

        def part() -> float:
            routes = self._switch.routes
            pairs = zip(routes.live, routes.shares, strict=True)
            own = sum(share for held, share in pairs if held is variant)
            return own / sum(routes.shares) if own else 0.0

        variant.meter.show(
            form=variant.model.predictor.form,
            share=None if shadow else part,
            waiting=lambda: variant.lane.waiting,
        )

    def _drain(self) -> None:
        """Close the lanes of what left, once nothing is asked of them any more."""
        for variant in self._leaving:
            if variant.in_flight == 0:
                variant.meter.gone()
                variant.lane.close()
                name, version = variant.name, variant.model.version
                said = f"version {version} has left as {name}"
                event(_log, logging.INFO, "left", said, variant=name, version=version)
        left = len(self._leaving)
        self._leaving = [variant for variant in self._leaving if variant.in_flight]
        if left > len(self._leaving) and self._placed:
            asyncio.get_running_loop().call_later(_LEAVE_S, in_background, give_back)

    def _fail(self, wanted: Wanted, error: Exception) -> None:
        self.failures += 1
        ours = isinstance(error, CharkhaError)
        self._failed = str(error) if ours else f"{type(error).__name__}: {error}"
        _log.error(
            "generation %d is not taken, what is held stays: %s",
            wanted.generation,
            error,
            exc_info=None if ours else error,
        )
        self._generation = wanted.generation
        self._say()

    def _say(self) -> None:
        """Write the report, if it says something new."""
        now = Report(
            worker=self._worker,
            pid=os.getpid(),
            generation=self._generation,
            failed=self._failed,
            variants=tuple(_held(key, each) for key, each in self._placed.items()),
            leaving=len(self._leaving),
            at=time.time(),
        )
        last = self._reported
        if last is not None and _news(last) == _news(now):
            same = replace(last, at=0.0) == replace(now, at=0.0)
            if same or now.at - last.at < _REPORT_S:
                return
        self._reported = now
        in_background(self._post)  # a disk that is busy shall not hold up the event loop
        if self._hook is not None:
            self._hook(now)

    def _post(self) -> None:
        """Write the newest report, in a thread."""
        with self._posting:
            newest = self._reported
            if newest is None or newest is self._posted:
                return
            try:
                write(self._files.report(self._server, self._worker), newest)
            except OSError as e:
                _log.error("worker %d cannot report: %s", self._worker, e)
            self._posted = newest


def _may_be_shared(model: ServedModel) -> bool:
    return model.predictor.form == "onnx"


def _key(variant: WantedVariant) -> _Key:
    return variant.name, variant.version, variant.package, variant.shadow


def _held(key: _Key, placed: _Placed) -> Held:
    return Held(
        name=key[0],
        version=key[1],
        shadow=key[3],
        share=placed.share,
        form=placed.variant.model.predictor.form,
        examples=placed.loaded.examples,
        since=placed.since,
        in_flight=placed.variant.in_flight,
    )


def _news(report: Report) -> Report:
    """Return what of a report is worth telling at once."""
    return replace(
        report, at=0.0, variants=tuple(replace(held, in_flight=0) for held in report.variants)
    )


def _stamp(path: Path) -> object:
    """Return what is another value whenever the file was written anew; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
