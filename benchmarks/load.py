"""A load generator on one core: requests over kept connections, every answer checked.

A closed loop (each connection has one request under way) on raw sockets and epoll, so that it costs
less than any server that it measures. Answers are kept and checked after the last one came, and
the garbage collector rests meanwhile: what checking costs is no part of a latency. Latency is from
before the first byte is sent to after the last one is read.
"""

from __future__ import annotations

import gc
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from socket import IPPROTO_TCP, TCP_NODELAY
from socket import create_connection as connect
from typing import NamedTuple

Address = tuple[str, int]
Check = Callable[[int, int, bytes], bool]  # which request, status, body -> is it right
Ready = Callable[[], bool]  # whether the server takes new connections
_HEAD_END = b"\r\n\r\n"
_AGAIN_S = 0.01  # between two tries to connect


class Failure(NamedTuple):
    """A request that got no answer, or a wrong one."""

    number: int  # its place among the requests given
    status: int  # 0 where there was no answer
    said: bytes  # the body, or what happened to the connection


@dataclass
class Outcome:
    """What a load brought to light."""

    seconds: float = 0.0
    answers: int = 0  # all that came, right or wrong
    in_time: int = 0  # those that came before the time was up
    wrong: int = 0  # answered, but not as expected
    errors: int = 0  # reset, closed, cut off, or not answered in time
    refused: int = 0  # tries to connect that were refused; tried again
    latencies_s: list[float] = field(default_factory=list)  # in the order of the answers
    failures: list[Failure] = field(default_factory=list)  # every one of `wrong` and `errors`
    kept: list[tuple[int, int, bytes]] = field(default_factory=list, repr=False)  # not yet judged

    def judge(self, check: Check) -> Outcome:
        """Hold every answer that was kept against what was expected, and return itself."""
        wrong = [Failure(*answer) for answer in self.kept if not check(*answer)]
        self.kept.clear()
        self.wrong += len(wrong)
        self.failures += wrong
        return self

    @property
    def per_second(self) -> float:
        return self.in_time / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Return the latency that this share of the answers stayed below, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class _Connection:
    __slots__ = ("address", "buffer", "head", "needed", "number", "sent_at", "socket", "status")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.number, self.needed, self.buffer, self.head = 0, 0, b"", b""

    def open(self) -> None:
        self.socket = connect(self.address, timeout=5)
        self.socket.settimeout(None)  # a time-out costs one more system call for each read
        self.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)

    def ask(self, number: int, request: bytes) -> None:
        self.number, self.needed, self.buffer = number, 0, b""  # needed: bytes of the whole answer
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> bytes | None:
        """Return the body once all of it is here; raises ConnectionError where it was cut off."""
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionResetError("closed in the middle")
        self.buffer = self.buffer + more if self.buffer else more
        if not self.needed:
            end = self.buffer.find(_HEAD_END)
            if end < 0:
                return None
            self.head = self.buffer[:end].lower()
            self.status = int(self.head[9:12])
            self.needed = end + 4 + _length(self.head)
        if len(self.buffer) < self.needed:
            return None
        if len(self.buffer) > self.needed:
            raise ConnectionAbortedError("more came than the answer's length")
        return self.buffer[len(self.head) + 4 :]

    @property
    def closing(self) -> bool:
        """Whether the server said that it will close this connection."""
        return b"\r\nconnection: close" in self.head


def _length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"an answer without a length: {head[:200]!r}")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


def post(path: str, body: bytes, kind: str = "application/json", headers: str = "") -> bytes:
    """Return the bytes of one HTTP/1.1 request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def load(
    address: Address,
    requests: Sequence[bytes],
    check: Check,
    *,
    connections: int = 32,
    seconds: float | None = None,
    count: int | None = None,
    patience_s: float = 30.0,
    ready: Ready | None = None,
) -> Outcome:
    """Send requests as `send` does, then check every answer."""
    return send(
        address,
        requests,
        connections=connections,
        seconds=seconds,
        count=count,
        patience_s=patience_s,
        ready=ready,
    ).judge(check)


def send(
    address: Address,
    requests: Sequence[bytes],
    *,
    connections: int = 32,
    seconds: float | None = None,
    count: int | None = None,
    patience_s: float = 30.0,
    ready: Ready | None = None,
) -> Outcome:
    """Send `requests` round and round over `connections`, for some seconds or up to a count.

    A connection on which the server announced `Connection: close`, or that broke, is opened again,
    for as long as it takes up to `patience_s`; what broke in the middle of a request counts as an
    error, as does what has no answer when nothing at all came for `patience_s`. With `ready` it
    does as a load balancer: a connection is opened again once that says so.

    Returns:
        What came of it, with the answers not yet judged.

    Raises:
        ConnectionError: nobody listens, for `patience_s`.
        ValueError: an answer without `Content-Length`.
    """
    running = _Load(address, requests, seconds, count, patience_s, ready)
    collecting = gc.isenabled()
    gc.disable()
    try:
        running.run(connections)
    finally:
        running.close()
        if collecting:
            gc.enable()
    outcome = running.outcome
    outcome.errors, outcome.answers = len(outcome.failures), len(outcome.kept)
    return outcome


class _Load:
    """One load under way."""

    def __init__(
        self,
        address: Address,
        requests: Sequence[bytes],
        seconds: float | None,
        count: int | None,
        patience_s: float,
        ready: Ready | None,
    ) -> None:
        self.address, self.requests, self.patience_s = address, requests, patience_s
        self.ready = ready or (lambda: True)
        self.seconds = seconds if seconds is not None else float("inf")
        self.most = count if count is not None else float("inf")
        self.sent = 0
        self.poll = select.epoll()
        self.open: dict[int, _Connection] = {}
        self.to_open: deque[_Connection] = deque()
        self.outcome = Outcome()

    def run(self, connections: int) -> None:
        self.started = self.heard = time.perf_counter()
        self.until = self.started + self.seconds
        self.to_open.extend(_Connection(self.address) for _ in range(connections))
        self.reopen()
        while self.open or self.to_open:
            ready = self.poll.poll(_AGAIN_S if self.to_open else self.patience_s)
            for descriptor, _ in ready:
                self.hear(self.open[descriptor])
            self.reopen()
            if not ready and time.perf_counter() - self.heard >= self.patience_s:
                self.give_up()
        self.outcome.seconds = min(time.perf_counter() - self.started, self.seconds)

    def reopen(self) -> None:
        if self.to_open and self.ready():
            for _ in range(len(self.to_open)):
                self.connect(self.to_open.popleft())

    def connect(self, connection: _Connection) -> None:
        """Open a connection and ask the next question over it; where it is refused, later."""
        if self.sent >= self.most or time.perf_counter() >= self.until:
            return
        try:
            connection.open()
        except (ConnectionError, TimeoutError):
            self.outcome.refused += 1
            self.to_open.append(connection)
            return
        self.open[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN)
        self.ask(connection)

    def ask(self, connection: _Connection) -> None:
        """Send the next question, or put the connection away where there is none to send."""
        if self.sent >= self.most or time.perf_counter() >= self.until:
            self.drop(connection)
            return
        number = self.sent % len(self.requests)
        self.sent += 1
        try:
            connection.ask(number, self.requests[number])
        except ConnectionError as e:
            self.broken(connection, e)

    def hear(self, connection: _Connection) -> None:
        try:
            body = connection.read()
        except ConnectionError as e:
            self.broken(connection, e)
            return
        if body is None:
            return
        now = self.heard = time.perf_counter()
        self.outcome.latencies_s.append(now - connection.sent_at)
        self.outcome.in_time += now < self.until
        self.outcome.kept.append((connection.number, connection.status, body))
        if connection.closing:
            self.drop(connection)
            self.to_open.append(connection)
        else:
            self.ask(connection)

    def broken(self, connection: _Connection, why: ConnectionError) -> None:
        self.outcome.failures.append(Failure(connection.number, 0, str(why).encode()))
        self.drop(connection)
        self.to_open.append(connection)

    def drop(self, connection: _Connection) -> None:
        del self.open[connection.socket.fileno()]
        connection.socket.close()  # and so out of the poll

    def give_up(self) -> None:
        """Stop after a silence: what is under way has failed; where nobody listens, say so."""
        if not self.open:
            raise ConnectionRefusedError(f"nobody listens on {self.address}")
        for connection in self.open.values():
            self.outcome.failures.append(Failure(connection.number, 0, b"no answer"))
        self.close()
        self.to_open.clear()

    def close(self) -> None:
        for connection in self.open.values():
            connection.socket.close()
        self.open.clear()
        self.poll.close()
