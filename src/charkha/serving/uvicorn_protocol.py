"""HTTP/1.1 for the routes that predict without ASGI in between, on uvicorn's own protocol.

A task, an event and a scope for each request are more than half of what a small prediction costs.
So a POST that predicts, is whole, and is alone on its connection is handed over as it was parsed;
every other request takes uvicorn's way, through ASGI to the same endpoint.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from charkha.serving.app import too_large

if TYPE_CHECKING:
    from uvicorn.config import Config

    from charkha.serving.app import Endpoint
    from charkha.serving.dialects.port import Sent

_EXACT = frozenset((b"/predict", b"/invocations"))
_now = time.monotonic


class _Turn:
    """What stands for a request in uvicorn's bookkeeping while it is answered here."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = self.keep_alive = True
        self.disconnected = False
        self.message_event = asyncio.Event()


class DirectProtocol(HttpToolsProtocol):
    """One connection. The application of its configuration is an Endpoint."""

    def __init__(self, config: Config, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        self._endpoint = cast("Endpoint", config.app)
        self._most = self._endpoint.limits.body_bytes
        self._turn = _Turn()
        self._direct = False  # whether the request that is being read goes the short way
        self._head: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size = 0  # bytes of the body so far
        self._reading = False  # in the middle of a request
        self.quiet_since = _now()  # the last answer, or the start

    def connection_made(self, transport: Any) -> None:
        self._endpoint.connected_at = _now()
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        self.url = b""
        self._direct, self._reading = False, True

    def on_url(self, url: bytes) -> None:
        alone = self.cycle is None or self.cycle.response_complete
        if not self.url and alone and _predicts(url) and self.parser.get_method() == b"POST":
            self._direct, self.url = True, url
            self._head, self._parts, self._size = {}, [], 0
            return
        before = self.url
        if not before or self._direct:  # else: a path that came in two pieces
            self._direct = False
            super().on_message_begin()
        self.url = before + url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._direct:
            self._head[name.lower()] = value
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._direct and (self.parser.should_upgrade() or b"expect" in self._head):
            self._hand_back()
        if not self._direct:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._direct:
            super().on_body(body)
            return
        self._size += len(body)
        if self._size <= self._most:  # the rest is read and forgotten, so that the answer is heard
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self._reading = False
        if not self._direct:
            super().on_message_complete()
            return
        turn = self._turn
        turn.response_complete = False
        turn.keep_alive = self.parser.should_keep_alive() and (
            self.parser.get_http_version() != "1.0"
        )
        self.cycle = cast("Any", turn)
        path = self.url.decode("latin-1")
        if self._size > self._most:
            self._endpoint.refuse(too_large(self._most), path, self._head, self._reply)
            return
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._endpoint.begin(path, self._head, body, self._reply)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's never keeps one
        """Keep a connection that its caller has half closed until the answer is sent."""
        if self._turn.response_complete:
            return False
        self._turn.keep_alive = False
        return True

    def on_response_complete(self) -> None:
        self.quiet_since = _now()
        super().on_response_complete()

    def sweep(self, quiet_s: float, reading_s: float) -> None:
        """Close a connection that was quiet for too long, or takes too long to send a request."""
        if self.transport is None or not (self.cycle is None or self.cycle.response_complete):
            return
        limit = reading_s if self._reading else quiet_s
        if _now() - self.quiet_since > limit:
            self.transport.close()

    def _reply(self, status: int, body: bytes, own: Sent, request_id: str) -> None:
        turn, transport = self._turn, self.transport
        turn.response_complete = True
        self.quiet_since = _now()
        if transport.is_closing():
            return
        told = [STATUS_LINE[status]]
        for name, value in own:
            told += (name, b": ", value, b"\r\n")
        stays = turn.keep_alive and not self._endpoint.draining
        told.append(
            b"content-length: %d\r\ncharkha-id: %b\r\n%b\r\n"
            % (len(body), request_id.encode(), b"" if stays else b"connection: close\r\n")
        )
        told.append(body)
        transport.write(b"".join(told))
        if not stays:
            transport.close()
        elif self.pipeline:
            super().on_response_complete()

    def _hand_back(self) -> None:
        """Let uvicorn treat the request whose head was read."""
        url, self._direct = self.url, False
        super().on_message_begin()
        self.url = url
        for name, value in self._head.items():
            super().on_header(name, value)


def _predicts(url: bytes) -> bool:
    return url in _EXACT or (url.startswith(b"/v2/models/") and url.endswith(b"/infer"))
