"""The endpoint: requests that predict are answered here, an application has all the rest.

A request is decoded and checked on the event loop, joins a batch of its variant's lane, and is
answered once its record is kept. What may fail for one caller fails before the model is asked.
There are two ways in: `begin` takes a request that was read whole and calls back, without a task or
a future; `__call__` is the same behind ASGI.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from charkha.errors import Unavailable
from charkha.serving.dialects.choice import dialect_name
from charkha.serving.dialects.port import Dialect, Headers, Reading, Said, Sent
from charkha.serving.finished import Finished
from charkha.serving.lanes import Ask
from charkha.serving.lanes import Said as LaneSaid
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem
from charkha.serving.records.ids import new_ids

if TYPE_CHECKING:
    from charkha.serving.finished import Listener
    from charkha.serving.metrics import Meters
    from charkha.serving.variants import Routes, Switch, Variant

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Reply = Callable[[int, bytes, Sent, str], None]
"""Send an answer: status, body, headers without length and id, the request's id."""
Allowed = Callable[[Headers, str], str | None]
"""Return the id of the API key for (headers, model), None where none is needed.

Raises:
    Problem: 401 or 403.
"""

_log = logging.getLogger(__name__)
_now = time.perf_counter
ID = b"charkha-id"
_PROBLEM: Sent = [(b"content-type", b"application/problem+json")]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes."""

    body_bytes: int = 32 << 20
    rows: int = 100_000  # a request
    requests: int = 1024  # at once; more are told to come again
    timeout_s: float = 30.0  # from the first byte to the answer


class Exchange(Ask):
    """A request that predicts, from its arrival to its answer."""

    __slots__ = ("adapter", "endpoint", "headers", "id", "path", "reading", "reply", "variant")

    adapter: Dialect
    reading: Reading
    variant: Variant | None

    def __init__(self, endpoint: Endpoint, path: str, headers: Headers, reply: Reply) -> None:
        self.endpoint, self.path, self.headers, self.reply = endpoint, path, headers, reply
        self.id = new_ids(1)[0]  # of the request and of its first row
        self.started = _now()
        self.variant = None
        endpoint.open[self] = None

    def answer(self, said: LaneSaid) -> None:
        """Tell the caller what the lane says."""
        variant, endpoint = self.variant, self.endpoint
        if variant is None:
            return
        variant.in_flight -= 1
        if self not in endpoint.open:  # it took too long, and the caller was told
            return
        try:
            if not isinstance(said, Answers):
                raise said
            body, own = self.adapter.write(self.reading, Said(self.ids, said))
        except Exception as e:  # noqa: BLE001  # an HTTP handler: told and logged there
            self.refuse(e)
            return
        del endpoint.open[self]
        self.reply(200, body, own, self.id)
        variant.meter.answered(len(self.rows), _now() - self.started)
        if endpoint.listeners:
            self._tell(200)
        if endpoint.switch.routes.shadows:
            for shadow in endpoint.switch.routes.shadows:
                shadow.follow(self, variant)

    def refuse(self, error: Exception) -> None:
        """Tell the caller of an error: what it can mend, or where the log says more."""
        del self.endpoint.open[self]
        problem = _problem(error)
        if problem.status >= 500 and not isinstance(error, Problem):
            _log.error("request %s failed", self.id, exc_info=error)
        self.endpoint.meters.refused(problem.status)
        if problem.status >= 500 and self.variant is not None:
            self.variant.meter.failed()
        body = json.dumps({**problem.as_json(), "id": self.id}).encode()
        self.reply(problem.status, body, [*_PROBLEM, *problem.headers], self.id)
        if self.endpoint.listeners:
            self._tell(problem.status)

    def _tell(self, status: int) -> None:
        seconds = _now() - self.started
        finished = Finished(self.id, self.path, self.headers, status, seconds)
        if self.variant is not None:
            finished = finished._replace(
                model=self.variant.model.name,
                version=self.variant.model.version,
                variant=self.variant.name,
                rows=len(self.rows),
                key=self.key,
            )
        for listener in self.endpoint.listeners:
            listener(finished)


class Endpoint:
    """Answers requests that predict; as an ASGI application it hands all others to `rest`.

    Args:
        switch: which variants answer.
        rest: an ASGI application for all other routes.
        meters: where requests are counted.
        limits: what is taken.
        allowed: who may ask; None: everybody.
        listeners: are told of each request that was answered.
    """

    def __init__(
        self,
        switch: Switch,
        rest: App,
        *,
        meters: Meters,
        limits: Limits | None = None,
        allowed: Allowed | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.switch, self._rest, self.meters = switch, rest, meters
        self.limits = limits or Limits()
        self._allowed, self.listeners = allowed, tuple(listeners)
        self.open: dict[Exchange, None] = {}  # what is being answered, by its start
        self.draining = False  # connections are closed after their next answer
        self.connected_at = float("-inf")  # of time.monotonic(): the newest connection

    def begin(self, path: str, headers: Headers, body: bytes, reply: Reply) -> None:
        """Take a whole POST request on the event loop; `reply` is called once, now or later."""
        exchange = Exchange(self, path, headers, reply)
        try:
            self._ask(exchange, body)
        except Exception as e:  # noqa: BLE001  # an HTTP handler: told and logged there
            exchange.refuse(e)

    def end_late(self) -> None:
        """Refuse the requests that have taken too long; to be called now and then.

        One look at the oldest costs less than a timer for each.
        """
        deadline = _now() - self.limits.timeout_s
        while self.open and (oldest := next(iter(self.open))).started < deadline:
            oldest.refuse(_late(self.limits.timeout_s))

    def _ask(self, ask: Exchange, body: bytes) -> None:
        """Read the rows and put them into the lane of their variant.

        Raises:
            Problem: something is wrong with the request.
        """
        limits, headers = self.limits, ask.headers
        if len(self.open) > limits.requests:
            raise _busy(limits.requests)
        if len(body) > limits.body_bytes:
            raise too_large(limits.body_bytes)
        ask.at_us = time.time_ns() // 1000
        dialect, variant = self._find(ask.path, headers, ask.id)
        ask.key = self._allowed(headers, variant.model.name) if self._allowed is not None else None
        ask.adapter = variant.dialect(dialect)
        ask.reading = ask.adapter.read(body, headers)
        ask.rows = ask.reading.rows
        count = len(ask.rows)
        if count > limits.rows:
            raise _too_many(count, limits.rows)
        ask.ids = [ask.id] if count == 1 else [ask.id, *new_ids(count - 1)]
        entities = headers.get(b"charkha-entity")
        ask.entities = None if entities is None else _entities(entities)
        ask.variant = variant
        variant.in_flight += 1
        variant.lane.ask(ask)

    def _find(self, path: str, headers: Headers, request_id: str) -> tuple[str, Variant]:
        """Return the dialect of a path, and the variant that answers this request."""
        routes = self.switch.routes
        if path.startswith("/v2/"):
            version = _version_of(path, routes.live[0].model.name)
            dialect = "inference_v2"
            if version is not None:
                return dialect, _held(routes, version)
        elif path == "/predict":
            dialect = dialect_name(headers.get(b"content-type"))
        else:
            dialect = "invocations"
        return dialect, routes.choose(headers.get(b"charkha-key") or request_id.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as ASGI has it, or hand it on."""
        if scope["type"] != "http" or not predicts(scope["path"]):
            await self._rest(scope, receive, send)
            return
        path, headers = scope["path"], dict(scope["headers"])
        replied: asyncio.Future[tuple[int, bytes, Sent, str]]
        replied = asyncio.get_running_loop().create_future()

        def reply(status: int, body: bytes, own: Sent, request_id: str) -> None:
            if not replied.done():  # the caller may have gone
                replied.set_result((status, body, own, request_id))

        try:
            if scope["method"] != "POST":
                raise _METHOD
            async with asyncio.timeout(self.limits.timeout_s):
                body = await read_body(receive, self.limits.body_bytes)
        except TimeoutError:
            self.refuse(_SLOW, path, headers, reply)
        except Problem as e:
            self.refuse(e, path, headers, reply)
        except ConnectionError:  # the caller is gone
            return
        else:
            self.begin(path, headers, body, reply)
        status, body, own, request_id = await replied
        own = [*own, (ID, request_id.encode())]
        if self.draining:
            own.append((b"connection", b"close"))
        await send_answer(send, status, body, own)

    def refuse(self, problem: Problem, path: str, headers: Headers, reply: Reply) -> None:
        """Answer a request that cannot be taken."""
        Exchange(self, path, headers, reply).refuse(problem)


def predicts(path: str) -> bool:
    """Whether a path is one of those that predict."""
    if path.startswith("/v2/models/"):
        return path.endswith("/infer")
    return path in ("/predict", "/invocations")


async def read_body(receive: Receive, most: int) -> bytes:
    """Return the whole body.

    Raises:
        Problem: 413, it is larger than that.
        ConnectionError: the caller went away.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the body was cut off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise too_large(most)
        if not message.get("more_body"):
            return b"".join(parts)


async def send_answer(send: Send, status: int, body: bytes, headers: Sent) -> None:
    """Send an answer whole; its length is added to the headers."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Unavailable):
        return Problem(503, "not-recorded", "Predictions cannot be recorded", error.what)
    return Problem(500, "internal-error", "The server failed", "the server's log says why")


def _version_of(path: str, name: str) -> str | None:
    """Return V of `/v2/models/NAME/versions/V/infer`, or None of `/v2/models/NAME/infer`.

    Raises:
        Problem: 404, that is another model.
    """
    match unquote(path).split("/")[3:-1]:
        case [asked] if asked == name:
            return None
        case [asked, "versions", version] if asked == name:
            return version
    raise Problem(404, "unknown-model", "This server does not hold that model", f"it has {name!r}")


def _held(routes: Routes, version: str) -> Variant:
    found = routes.of_version(version)
    if found is None:
        known = ", ".join(sorted({str(variant.model.version) for variant in routes.live}))
        raise Problem(
            404, "unknown-version", "This server does not hold that version", f"it has {known}"
        )
    return found


def _entities(header: bytes) -> dict[str, str]:
    """Return the entity keys of `customer=7,shop=3`.

    Raises:
        Problem: 400, it is written otherwise.
    """
    pairs = [part.partition("=") for part in header.decode("latin-1").split(",")]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise Problem(
            400, "malformed-header", "charkha-entity cannot be read", "write customer=7,shop=3"
        )
    return {name.strip(): value.strip() for name, _, value in pairs}


def _busy(most: int) -> Problem:
    said = f"{most:,} requests are being answered; come again"
    return Problem(429, "too-busy", "Too many requests at once", said, headers=_COME_AGAIN)


def _late(timeout_s: float) -> Problem:
    said = f"no answer within {timeout_s:g} s; send fewer rows, or all of the body at once"
    return Problem(503, "timeout", "The request took too long", said, headers=_COME_AGAIN)


def _too_many(rows: int, most: int) -> Problem:
    said = f"{rows:,} rows are more than {most:,}; send them in parts"
    return Problem(413, "too-many-rows", "Too many rows", said)


def too_large(most: int) -> Problem:
    """Return what is said of a body of more bytes than that."""
    said = f"it is more than {most:,} bytes; send the rows in parts"
    return Problem(413, "too-large", "The body is too large", said)


_COME_AGAIN: Sent = [(b"retry-after", b"1")]
_METHOD = Problem(
    405, "method-not-allowed", "Method not allowed", "use POST", headers=[(b"allow", b"POST")]
)
_SLOW = Problem(408, "slow-body", "The body took too long", "send all of it at once")
