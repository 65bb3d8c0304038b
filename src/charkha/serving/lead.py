"""The lead of a server: decides which versions its workers hold, and follows the registry."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import BackendError, CharkhaError, Damaged, Unavailable, UserError
from charkha.models.packaged import folder_of
from charkha.models.registry import find_version, list_versions
from charkha.serving.changes import (
    Impossible,
    check,
    wanted_variant,
    with_shares,
    with_variant,
    with_versions,
    without,
)
from charkha.serving.following import Trouble, another_trouble, choose, lasting, moves
from charkha.serving.logs import event
from charkha.serving.orders import Orders
from charkha.serving.wanted import Asked, Files, Report, Variants, Wanted

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project

LOAD_S = 120.0  # for every worker to load and check a version
SWAP_S = 10.0  # for every worker to put in place what it has loaded
_LOOK_S = 0.2  # between two looks at whether all workers have started
# A registry that only MLflow itself can read costs seconds of a processor. So at most a thirtieth of
# the time goes into asking, and 5 min pass at most.
_PART, _LONGEST_S = 30, 300.0
_log = logging.getLogger(__name__)


class Lead:
    """Decides what the workers of one server hold. Safe to use from several threads.

    Args:
        project: whose registry is followed.
        model: name of the model.
        asked: the variants of the command line.
        workers: how many there are, numbered from 0.
        folder: where the state lies; the project's own without one.
        every_s: between two looks at the registry; 0: it is asked when something is, and not else.
        load_s: how long the workers may take to load and check a version.
        swap_s: how long they may take to put it in place.
    """

    def __init__(
        self,
        project: Project,
        model: str,
        *,
        asked: Sequence[Asked],
        workers: int = 1,
        folder: Path | None = None,
        every_s: float = 10.0,
        load_s: float = LOAD_S,
        swap_s: float = SWAP_S,
    ) -> None:
        self._project, self._model, self._asked = project, model, tuple(asked)
        self._workers, self._every_s = workers, every_s
        files = Files(folder or project.state / "serving", model)
        self._orders = Orders(files, workers=workers, load_s=load_s, swap_s=swap_s)
        self._troubles: dict[str, Trouble] = {}  # by the variant's name; replaced, never changed
        self._asking_s = 0.0  # that the registry took for its last answer
        self._registry: tuple[bool, float, str | None] = (True, time.time(), None)
        self.champion = nan  # the version, as the registry last said; 0: none is

    @property
    def registry_answers(self) -> bool:
        """Whether the registry answered when it was last asked."""
        return self._registry[0]

    def begin(self) -> Wanted:
        """Take the lead, and decide what the workers shall hold when they start.

        The command line that the last server had goes on with what that one held, and with the
        shares that were set; another one begins anew.

        Raises:
            Refused: another server has this folder.
            UserError: there is no such version, or not all of it can be held together.
            Unavailable: the registry does not answer, and nothing was held before.
        """
        try:
            kept = self._kept()
            if kept is not None and kept.asked == self._asked:
                variants = self._moved(kept.variants)
                instead = None if variants == kept.variants else kept.variants
            else:
                variants, instead = self._resolved(), None
            self._orders.begin(variants, asked=self._asked, after=kept, instead=instead)
        except BaseException:
            self._orders.close()
            raise
        return self._orders.wanted

    def start(self) -> None:
        """Follow the registry from now on, in a thread of its own."""
        threading.Thread(target=self._follow, name="lead", daemon=True).start()

    def close(self) -> None:
        """Give the lead up: another server may take it while this one drains. Returns at once."""
        self._orders.close()

    def why(self, worker: int) -> str | None:
        """Return why a worker could not do what is wanted; None if it did, or never said."""
        found = self._orders.reports().get(worker)
        return None if found is None else found.failed

    def status(self) -> dict[str, object]:
        """Return what is wanted, what each worker holds, and what did not work, as plain data."""
        wanted, reports = self._orders.wanted, self._orders.reports()
        reachable, since, why = self._registry
        total = sum(variant.share for variant in wanted.variants)
        return {
            "model": self._model,
            "generation": wanted.generation,
            "variants": [
                {**asdict(variant), "part": variant.share / total} for variant in wanted.variants
            ],
            "coming": [asdict(variant) for variant in wanted.coming or ()],
            "workers": [
                _told(number, reports.get(number), wanted.generation)
                for number in range(self._workers)
            ],
            "registry": {"reachable": reachable, "since": since, "why": why},
            "troubles": [{"variant": name, **asdict(t)} for name, t in self._troubles.items()],
        }

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Give each variant that answers another share; returns once every worker does so.

        Raises:
            Impossible: that cannot be, and why.
            Unavailable: not every worker has done it in time; it is wanted all the same.
        """
        self._orders.change(lambda variants: with_shares(variants, shares))

    def add(self, asked: Asked) -> None:
        """Hold another variant; returns once every worker does.

        Raises:
            Impossible: that cannot be, and why.
            Refused: a worker cannot load the version, or it failed its check; nothing has changed.
            Unavailable: the registry or a worker has not answered in time.
        """
        try:
            version = choose(self._versions(), self._model, asked.which)
        except UserError as e:
            field = "version" if asked.which.isdigit() else "alias"
            raise Impossible(e.what, kind="invalid", field=field, fix=e.fix) from e
        new = wanted_variant(asked, version)
        with_variant(self._orders.wanted.variants, new)  # before anything is fetched
        folder_of(self._project, version)  # once, and not by every worker
        self._orders.change(lambda variants: with_variant(variants, new))

    def drop(self, name: str) -> None:
        """Hold a variant no longer; returns once no worker sends it another request.

        Raises:
            Impossible: that cannot be, and why.
            Unavailable: not every worker has done it in time; it is wanted all the same.
        """
        self._orders.change(lambda variants: without(variants, name))

    def _kept(self) -> Wanted | None:
        """Take the lead; return what the last server should have held."""
        try:
            return self._orders.take()
        except Damaged as e:
            _log.warning("what was held before is lost, the command line counts: %s", e)
            return None

    def _moved(self, variants: Variants) -> Variants:
        """Return the variants where their aliases stand now, if the registry answers."""
        if not any(variant.follows for variant in variants):
            return variants
        try:
            versions = self._versions()
        except BackendError:
            return variants
        return with_versions(variants, moves(variants, versions, {}, time.time()))

    def _resolved(self) -> Variants:
        """Return what the command line asks for."""
        versions = self._versions()
        if not versions:
            find_version(self._project, self._model)  # raises, and knows which may be meant
        return check(
            tuple(
                wanted_variant(asked, choose(versions, self._model, asked.which))
                for asked in self._asked
            )
        )

    def _follow(self) -> None:
        """Look at the registry now and then, until the lead is given up."""
        settled, pause_s = False, _LOOK_S
        while not self._orders.ended.wait(pause_s):
            try:
                if not settled:
                    settled = self._settled()
                elif self._every_s:
                    self._look()
            except Exception:  # noqa: BLE001  # a worker's loop: the next look may do better
                _log.exception("the registry cannot be followed")
            if settled:
                if not self._every_s:
                    return
                pause_s = max(self._every_s, min(_PART * self._asking_s, _LONGEST_S))

    def _settled(self) -> bool:
        """Whether all workers have started; what one could not load is remembered."""
        wanted = self._orders.wanted
        try:
            why = self._orders.settle()
        except Unavailable:
            return False
        if why is not None:
            for old, new in zip(wanted.instead or (), wanted.variants, strict=True):
                if old != new:
                    self._remember(new.name, new.version, new.package, why)
        return True

    def _look(self) -> None:
        """Ask the registry, and move the variants whose alias has moved."""
        try:
            versions = self._versions()
        except BackendError:  # it was said, and what is held stays
            return
        held = self._orders.wanted.variants
        self._troubles = lasting(self._troubles, held, versions)
        for name, target in moves(held, versions, self._troubles, time.time()).items():
            self._move(name, target)

    def _move(self, name: str, target: ModelVersion) -> None:
        said = f"{name} stands for version {target.version} now, which is being loaded"
        event(_log, logging.INFO, "moving", said, variant=name, version=target.version)
        try:
            folder_of(self._project, target)
            self._orders.change(lambda variants: with_versions(variants, {name: target}))
        except CharkhaError as e:
            if not self._orders.ended.is_set():
                self._remember(name, target.version, str(target.package), str(e))

    def _remember(self, name: str, version: int, package: str, why: str) -> None:
        trouble = another_trouble(self._troubles.get(name), version, package, why, time.time())
        self._troubles = {**self._troubles, name: trouble}
        again_s = trouble.again_at - trouble.at
        said = f"{name} stays as it is: version {version} cannot be put in place: {why}"
        about = {"variant": name, "version": version, "tries": trouble.tries, "again_s": again_s}
        event(_log, logging.ERROR, "not-swapped", said, **about)

    def _versions(self) -> list[ModelVersion]:
        """Ask the registry.

        Raises:
            BackendError: it does not answer; the log says so once.
        """
        began = time.monotonic()
        try:
            found = list_versions(self._project, self._model)
        except BackendError as e:
            if self.registry_answers:
                said = f"the registry does not answer, what is held stays: {e}"
                event(_log, logging.WARNING, "registry-down", said)
                self._registry = (False, time.time(), str(e))
            raise
        self._asking_s = time.monotonic() - began
        self.champion = next((float(v.version) for v in found if "champion" in v.aliases), 0.0)
        if not self.registry_answers:
            event(_log, logging.WARNING, "registry-up", "the registry answers again")
            self._registry = (True, time.time(), None)
        return found


def _told(number: int, report: Report | None, wanted: int) -> dict[str, object]:
    if report is None:
        return {"worker": number, "alive": False, "done": False}
    return {
        **asdict(report),
        "alive": _lives(report.pid),
        "done": report.generation >= wanted and report.failed is None,
    }


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
