"""Sockets and HTTP: uvicorn with httptools and uvloop, which was measured to be the fastest.

`benchmarks/http_servers.py` compares it with others; decision 6 says what followed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from charkha.errors import UserError
from charkha.serving.uvicorn_protocol import DirectProtocol

if TYPE_CHECKING:
    from charkha.serving.app import App, Endpoint

QUIET_S = 75.0  # that a kept connection may be silent: longer than most load balancers keep theirs
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections; port 0 takes a free one.

    Raises:
        UserError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as e:
        listening.close()
        raise _refused(e, host, port) from e
    return listening


def address(listening: socket.socket) -> str:
    """Return the URL of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the loop that was measured to be the fastest here."""
    config = uvicorn.Config(_nothing, loop="auto")  # uvloop where there is one
    factory = cast("Callable[[], asyncio.AbstractEventLoop]", config.get_loop_factory())
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


class HttpServer(uvicorn.Server):
    """One application on one socket, in the event loop that is there; signals are not its affair.

    Args:
        app: what answers; requests that predict reach an Endpoint without ASGI in between.
        listening: is closed by `stop`.
    """

    def __init__(self, app: App | Endpoint, listening: socket.socket) -> None:
        direct = hasattr(app, "begin")
        config = uvicorn.Config(
            cast("Any", app),
            http=DirectProtocol if direct else HttpToolsProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(QUIET_S),
            timeout_graceful_shutdown=10,
        )
        super().__init__(config)
        self._listening = listening
        self._running: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the worker, which drains before it stops this."""
        yield

    async def start(self) -> None:
        """Take connections from now on."""
        self._running = asyncio.create_task(self.serve(sockets=[self._listening]))
        while not self.started and not self._running.done():
            await asyncio.sleep(0.001)

    @property
    def busy(self) -> bool:
        """Whether a connection is open."""
        return bool(self.server_state.connections)

    def sweep(self, reading_s: float) -> None:
        """Close connections that are quiet for too long; to be called now and then.

        Args:
            reading_s: how long a request may take to arrive.
        """
        for connection in list(self.server_state.connections):
            if isinstance(connection, DirectProtocol):
                connection.sweep(QUIET_S, reading_s)

    async def stop(self) -> None:
        """Take no more connections, let requests end, close what is open."""
        self.should_exit = True
        if self._running is not None:
            await self._running


async def _nothing(*_: object) -> None:
    """Be the application that a configuration wants."""


def _refused(error: Exception, host: str, port: int) -> UserError:
    if isinstance(error, OverflowError):
        return UserError(f"port {port} is none", fix="add --port with 0 to 65535")
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return UserError(
            f"port {port} of {host} is taken by another program",
            fix=f"stop that one, or add --port {port + 1}, or set [serving] port in charkha.toml",
        )
    if code == errno.EACCES:
        return UserError(
            f"port {port} is only for the administrator", fix="add --port 8000, or above 1023"
        )
    return UserError(
        f"{host} is no address of this machine: {error}",
        fix="add --host 127.0.0.1, or set [serving] host in charkha.toml",
    )
