"""The crew: workers in processes of their own, which share the listening socket of their lead.

A worker that dies is started again. When the lead dies the pipe to its workers breaks, and they
drain and end, so that nobody holds the port for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.errors import BackendError

if TYPE_CHECKING:
    import socket
    from asyncio.subprocess import Process

    from charkha.project import Project
    from charkha.serving.lead import Lead

_AGAIN_S = (0.0, 1.0, 2.0, 5.0, 10.0)  # before a worker that died is started again
_STEADY_S = 60.0  # after which a death counts as the first one
_PATIENCE_S = 5.0  # beyond draining, before a worker is killed
_log = logging.getLogger(__name__)


class Crew:
    """The workers of one server.

    Args:
        project: whose settings they read.
        model: name of the model.
        listening: the socket that they inherit.
        host: that it listens on.
        folder: where the server keeps what it holds.
        counts: where they count.
        debug: whether they log the texts of exceptions.
    """

    def __init__(
        self,
        project: Project,
        model: str,
        listening: socket.socket,
        *,
        host: str,
        folder: Path,
        counts: Path,
        debug: bool = False,
    ) -> None:
        self._project, self._listening = project, listening
        self._told = {
            "root": str(project.root),
            "environment": project.environment,
            "model": model,
            "host": host,
            "folder": str(folder),
            "counts": str(counts),
            "debug": debug,
            "listening": listening.fileno(),
        }
        self._stop = asyncio.Event()
        self._processes: dict[int, Process] = {}

    async def run(self, lead: Lead, count: int, ready: Callable[[], None]) -> None:
        """Start `count` workers, keep them alive, and end them once SIGTERM or SIGINT came.

        Raises:
            BackendError: a worker could not start; says why.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        alive, held = os.pipe()  # nobody writes: it breaks when this process is gone
        keeping: list[asyncio.Task[None]] = []
        try:
            begun = [asyncio.Event() for _ in range(count)]
            keeping = [
                asyncio.create_task(self._keep(number, alive, begun[number], lead))
                for number in range(count)
            ]
            all_begun = asyncio.create_task(_all(begun))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({all_begun, stopped, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            if all_begun.done():
                ready()
                await asyncio.wait({stopped, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            all_begun.cancel()
            stopped.cancel()
            for keeper in keeping:
                if keeper.done():
                    keeper.result()  # why a worker cannot start
        finally:
            self._stop.set()
            lead.close()
            await self._end()
            for keeper in keeping:
                keeper.cancel()
            os.close(held)
            os.close(alive)

    async def _keep(self, number: int, alive: int, begun: asyncio.Event, lead: Lead) -> None:
        """Start a worker, and again whenever it dies."""
        deaths = 0
        while not self._stop.is_set():
            started = time.monotonic()
            process = await self._start(number, alive, begun)
            code = await process.wait()
            if self._stop.is_set():
                return
            if not begun.is_set():
                why = lead.why(number) or f"it ended with {code}"
                raise BackendError(
                    f"worker {number} cannot start: {why}", fix="see what it said above"
                )
            deaths = 0 if time.monotonic() - started > _STEADY_S else deaths + 1
            _log.error("worker %d died with %d; it is started again", number, code)
            await asyncio.sleep(_AGAIN_S[min(deaths, len(_AGAIN_S) - 1)])

    async def _start(self, number: int, alive: int, begun: asyncio.Event) -> Process:
        told_by, tell = os.pipe()
        told = json.dumps({**self._told, "number": number, "alive": alive, "ready": tell})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "charkha.serving.child", told),
            pass_fds=(self._listening.fileno(), alive, tell),
            start_new_session=True,  # Ctrl-C is the lead's to hear
        )
        os.close(tell)
        self._processes[number] = process
        loop = asyncio.get_running_loop()

        def heard() -> None:
            loop.remove_reader(told_by)
            if os.read(told_by, 1):
                begun.set()
            os.close(told_by)

        loop.add_reader(told_by, heard)
        return process

    async def _end(self) -> None:
        """Let all workers drain, and kill those that do not end."""
        living = [p for p in self._processes.values() if p.returncode is None]
        for process in living:
            with suppress(ProcessLookupError):
                process.terminate()
        settings = self._project.serving
        patience = settings.drain_s + settings.timeout_s + _PATIENCE_S
        waiting = [asyncio.create_task(process.wait()) for process in living]
        if waiting:
            await asyncio.wait(waiting, timeout=patience)
        for process in living:
            if process.returncode is None:
                _log.error("worker with pid %d does not end and is killed", process.pid)
                process.kill()
                await process.wait()


async def _all(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
