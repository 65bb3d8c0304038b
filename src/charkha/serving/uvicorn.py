"""An ASGI application on a port, with uvicorn, until somebody stops it."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from charkha.errors import UserError

if TYPE_CHECKING:
    from charkha.serving.app import App


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
        listening.listen(2048)
    except OSError as e:
        listening.close()
        raise _refused(e, host, port) from e
    return listening


def run(app: App, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; requests that are being answered are answered."""
    config = uvicorn.Config(cast("Any", app), log_level="warning", access_log=False, lifespan="on")
    uvicorn.Server(config).run(sockets=[listening])


def _refused(error: OSError, host: str, port: int) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"port {port} of {host} is taken by another program",
            fix=f"stop that one, or add --port {port + 1}, or set [serving] port in charkha.toml",
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"port {port} is only for the administrator", fix="add --port 8000, or above 1023"
        )
    return UserError(
        f"{host} is no address of this machine: {error.strerror}",
        fix="add --host 127.0.0.1, or set [serving] host in charkha.toml",
    )
