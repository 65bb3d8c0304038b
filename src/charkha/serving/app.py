"""The endpoint: a raw ASGI route that predicts, in front of an application for all the rest.

A request is decoded and checked on the event loop, answered by the model in one worker thread, and
encoded. What may fail for one caller fails before the model is asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from charkha.errors import DataError
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 32 << 20
_log = logging.getLogger(__name__)


class Endpoint:
    """An ASGI application for one version: `/predict` here, everything else in `rest`."""

    def __init__(self, model: ServedModel, rest: App, *, max_body_bytes: int = MAX_BODY_BYTES):
        self._model, self._rest, self._max = model, rest, max_body_bytes
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._ids = (f"{os.urandom(6).hex()}-{n}" for n in count(1))
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self._rest(scope, receive, send)
            return
        request_id = next(self._ids)
        try:
            said = await self._predict(scope, receive, request_id)
            await self._send(send, 200, "application/json", said)
        except Problem as e:
            allow = [(b"allow", b"POST")] if e.status == 405 else []
            told = {**e.as_json(), "id": request_id}
            await self._send(send, e.status, "application/problem+json", told, allow)

    async def _predict(self, scope: Scope, receive: Receive, request_id: str) -> dict[str, object]:
        if scope["method"] != "POST":
            raise Problem(405, "method-not-allowed", "Method not allowed", "use POST")
        request = self._model.schema.decode(await self._body(receive))
        loop = asyncio.get_running_loop()
        try:
            said = await loop.run_in_executor(
                self._worker, self._model.predictor.predict, request.columns
            )
        except DataError as e:
            raise Problem(422, "invalid-rows", "The model refuses the rows", e.what) from e
        except Exception as e:  # an HTTP handler: the caller gets an id, the log gets the cause
            _log.exception("request %s failed", request_id)
            raise Problem(
                500, "internal-error", "The model failed", "the server's log says why"
            ) from e
        answer: dict[str, object] = {
            "id": request_id,
            "model": self._model.name,
            "version": self._model.version,
        }
        if request.single:
            answer["prediction"] = said.values[0]
            if said.probabilities is not None:
                answer["probabilities"] = said.probabilities[0]
        else:
            answer["predictions"] = said.values
            if said.probabilities is not None:
                answer["probabilities"] = said.probabilities
        return answer

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "disconnected", "The body was cut off", "send all of it")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max:
                raise Problem(
                    413,
                    "too-large",
                    "The body is too large",
                    f"it is more than {self._max:,} bytes; send the rows in parts",
                )
            if not message.get("more_body"):
                return b"".join(parts)

    async def _send(
        self,
        send: Send,
        status: int,
        kind: str,
        document: dict[str, object],
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        body = self._encode(document)
        own = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            *(headers or []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": own})
        await send({"type": "http.response.body", "body": body})
