"""Work beside an event loop, in threads that keep no process from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")


def in_background(call: Callable[[], object]) -> None:
    """Run something in a thread of its own."""
    threading.Thread(target=call, name="background", daemon=True).start()


async def in_thread(call: Callable[[], _Result]) -> _Result:
    """Return what a call returns, made in a thread of its own.

    Who is cancelled waits no longer; the thread goes on to its end, and nobody hears of that. The
    event loop's own executor does not do: a process waits for its threads, and a call may hang.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def deliver(result: _Result | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None where the call returns it

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as e:  # noqa: BLE001  # raised where it is waited for
            error = e
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, result, error)

    in_background(work)
    return await future
