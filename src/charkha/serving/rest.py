"""What stands beside the routes that predict: health, metrics, feedback; the rest is FastAPI's.

Health and metrics are asked for all the time and have to answer in any state, so they need nothing
but this module. FastAPI carries documentation, and costs its import at the first call of that.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from charkha.errors import Unavailable
from charkha.serving.app import ID, read_body, send_answer
from charkha.serving.dialects.port import Headers, Sent
from charkha.serving.problems import Problem
from charkha.serving.records.ids import new_ids

if TYPE_CHECKING:
    from charkha.serving.app import App, Receive, Scope, Send

Answer = tuple[int, bytes, Sent]
Route = Callable[[Headers, bytes], Answer]
_JSON: Sent = [(b"content-type", b"application/json")]
_log = logging.getLogger(__name__)


class Rest:
    """An ASGI application for all that is no prediction.

    Args:
        gets, posts: what answers a path, given headers and body.
        discover: answers another path with GET; None: it does not know it.
        documentation: makes the application for every other path; called in a thread, once for
            each state that `about` tells apart.
        about: tells what is documented now.
        body_bytes: the largest body.
    """

    def __init__(
        self,
        gets: dict[str, Route],
        posts: dict[str, Route],
        discover: Callable[[str], Answer | None],
        documentation: Callable[[], App],
        about: Callable[[], object],
        *,
        body_bytes: int,
    ) -> None:
        self._routes = {"GET": gets, "HEAD": gets, "POST": posts}
        self._paths = {*gets, *posts}
        self._discover = discover
        self._make, self._about, self._most = documentation, about, body_bytes
        self._documented: tuple[object, App] | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path not in self._paths:
            await self._beside(scope, receive, send)
            return
        route = self._routes.get(scope["method"], {}).get(path)
        try:
            if route is None:
                allowed = ", ".join(m for m, routes in self._routes.items() if path in routes)
                raise Problem(
                    405,
                    "method-not-allowed",
                    "Method not allowed",
                    f"use {allowed}",
                    headers=[(b"allow", allowed.encode())],
                )
            body = await read_body(receive, self._most)
            status, told, headers = route(dict(scope["headers"]), body)
        except ConnectionError:  # the caller is gone
            return
        except Exception as e:  # noqa: BLE001  # an HTTP handler: told, and logged there
            status, told, headers = _refusal(e)
        await send_answer(send, status, b"" if scope["method"] == "HEAD" else told, headers)

    async def _beside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what the protocols ask of a server, or leave it to the documentation."""
        found = self._discover(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        if found is None:
            await (await self._documentation())(scope, receive, send)
            return
        status, told, headers = found
        await send_answer(send, status, b"" if scope["method"] == "HEAD" else told, headers)

    async def _documentation(self) -> App:
        async with self._making:
            about = self._about()
            if self._documented is None or self._documented[0] != about:
                self._documented = about, await asyncio.to_thread(self._make)
            return self._documented[1]


def told(document: object, status: int = 200) -> Answer:
    """Return an answer that is a JSON document."""
    return status, json.dumps(document).encode(), _JSON


def _refusal(error: Exception) -> Answer:
    """Return what the caller is told of an error, with an id that the log has as well."""
    if isinstance(error, Unavailable):
        error = Problem(503, "unavailable", "This cannot be done now", error.what)
    elif not isinstance(error, Problem):
        request_id = new_ids(1)[0]
        _log.error("request %s failed", request_id, exc_info=error)
        error = Problem(500, "internal-error", "The server failed", "the server's log says why")
        error.headers.append((ID, request_id.encode()))
    kind = (b"content-type", b"application/problem+json")
    return error.status, json.dumps(error.as_json()).encode(), [kind, *error.headers]
