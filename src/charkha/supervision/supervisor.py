"""The supervisor: starts parts one after the other, keeps them running, and ends them in order."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from charkha.supervision.children import Child, Lifeline
from charkha.supervision.parts import Event, Part, Tell
from charkha.supervision.probing import answers
from charkha.supervision.rules import after_death, ending_of, order_of_ending

Outcome = Literal["ended", "killed", "given up"]
ALL = "up"  # who speaks where it is about all parts
_PROBE_S = 0.1  # between two questions whether a part is ready
_GONE_S = 5.0  # that a kernel may take to end what was killed


class Supervisor:
    """Runs parts until a signal ends them, or one that is essential has to be given up.

    Args:
        parts: in the order in which they are started: each once the one before is ready.
        tell: called with everything that happens.
        wrote: called with the processes of the parts whenever one was started.
        holding: descriptors that stay open until the last process is gone, also if this one is
            killed.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tell: Tell,
        wrote: Callable[[Mapping[str, int]], None],
        *,
        holding: Sequence[int] = (),
    ) -> None:
        self._parts, self._tell, self._wrote = parts, tell, wrote
        self._holding = holding
        self._stop, self._kill = asyncio.Event(), asyncio.Event()
        self._children: dict[str, Child] = {}
        self._settled = {part.name: asyncio.Event() for part in parts}  # ready, or given up
        self._given_up: list[Part] = []

    async def run(self) -> Outcome:
        """Run until SIGINT, SIGTERM or SIGHUP; a second SIGINT kills what has not ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked, number)
        loop.add_signal_handler(signal.SIGCHLD, self._look)
        self._guard = Lifeline(*self._holding)
        before = [None, *(self._settled[part.name] for part in self._parts)]
        tasks = [asyncio.create_task(self._announce())]
        for part, event in zip(self._parts, before, strict=False):
            tasks.append(asyncio.create_task(self._keep(part, event)))
        for task in tasks:
            task.add_done_callback(self._broken)
        try:
            await self._stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
            self._guard.close()
        for result in ended:
            if isinstance(result, Exception):
                raise result
        if self._kill.is_set():
            return "killed"
        return "given up" if any(part.essential for part in self._given_up) else "ended"

    def _asked(self, number: int) -> None:
        if not self._stop.is_set():
            self._stop.set()
        elif number == signal.SIGINT:  # not the others: closing a terminal sends SIGHUP twice
            self._kill.set()

    def _broken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stop.set()

    def _look(self) -> None:
        """See who has ended."""
        for child in self._children.values():
            child.look()
        if not self._stop.is_set() and self._guard.look():
            self._tell(Event("guarded", ALL, "the guard of the parts was killed, and is back", {}))

    async def _keep(self, part: Part, before: asyncio.Event | None) -> None:
        """Start a part, and again whenever it dies, until it is given up."""
        if before is not None:
            await before.wait()
        deaths: list[float] = []
        while True:
            try:
                died = await self._live(part)
            except (OSError, subprocess.SubprocessError) as e:
                died = Event("", part.name, f"it cannot be started: {e}", {"code": None})
            deaths.append(time.monotonic())
            verdict = after_death(deaths, deaths[-1])
            if verdict.again_s is None:
                self._give_up(part, f"{died.text}; {verdict.because}, so it is given up", died)
                return
            said = f"{died.text}; it is started again in {verdict.again_s:g} s"
            about = {**died.about, "again_s": verdict.again_s, "because": verdict.because}
            self._tell(Event("died", part.name, said, about))
            await asyncio.sleep(verdict.again_s)

    async def _live(self, part: Part) -> Event:
        """Start a part and wait for its end; return how it ended."""
        name = part.name
        child = Child(part, self._guard, lambda text: self._tell(Event("line", name, text, {})))
        self._children[name] = child
        self._wrote({name: child.pid for name, child in self._children.items()})
        self._tell(Event("starting", name, f"starting, pid {child.pid}", {"pid": child.pid}))
        probing = asyncio.create_task(self._probe(part, child))
        try:
            await child.over.wait()
        finally:
            probing.cancel()
        code = child.code or 0
        about = {"pid": child.pid, "code": code, "last": list(child.last)}
        return Event("", name, ending_of(code), about)

    async def _probe(self, part: Part, child: Child) -> None:
        """Wait until a part is ready, and say so."""
        while part.probe is not None and not await answers(part.probe):
            await asyncio.sleep(_PROBE_S)
        self._tell(Event("ready", part.name, "ready", {"pid": child.pid}))
        self._settled[part.name].set()

    async def _announce(self) -> None:
        """Say when every part is ready or was given up."""
        for event in self._settled.values():
            await event.wait()
        lacking = [part.name for part in self._given_up]
        runs = [part.name for part in self._parts if part not in self._given_up]
        said = f"{', '.join(runs)} {'runs' if len(runs) == 1 else 'run'}"
        self._tell(Event("all-ready", ALL, said, {"runs": runs, "given_up": lacking}))

    def _give_up(self, part: Part, said: str, died: Event) -> None:
        self._given_up.append(part)
        self._tell(Event("given-up", part.name, said, died.about))
        if part.essential:
            self._stop.set()
        self._settled[part.name].set()

    async def _end(self) -> None:
        """End all parts: group by group, and at once where that is asked for."""
        living = {c.part.name for c in self._children.values() if c.code is None}
        for group in order_of_ending(part for part in self._parts if part.name in living):
            children = [self._children[part.name] for part in group]
            names = ", ".join(part.name for part in group)
            patience_s = max(part.patience_s for part in group)
            if not self._kill.is_set():
                about = {"parts": [part.name for part in group], "patience_s": patience_s}
                self._tell(Event("stopping", ALL, f"{names} is told to end", about))
                for child in children:
                    child.terminate()
                await self._gone(children, patience_s, self._kill)
            for child in children:
                if child.code is None:
                    self._tell(Event("killed", child.part.name, "it is killed", {"pid": child.pid}))
                    child.kill()
            await self._gone(children, _GONE_S)

    async def _gone(
        self, children: Sequence[Child], timeout_s: float, unless: asyncio.Event | None = None
    ) -> None:
        """Wait until all have ended, the time is up, or somebody is out of patience."""
        over = asyncio.create_task(_all_over(children))
        waiting = {over} if unless is None else {over, asyncio.create_task(unless.wait())}
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


async def _all_over(children: Sequence[Child]) -> bool:
    for child in children:
        await child.over.wait()
    return True
