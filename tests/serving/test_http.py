"""The way of bytes: the short way to the endpoint, and uvicorn's, on real sockets."""

import json
import socket
import time

import pytest

from charkha.errors import DataError
from charkha.serving.app import Limits
from charkha.serving.loading import load_package
from charkha.serving.predictors.port import Answers

ROW = b'{"area": 3, "district": "North"}'


@pytest.fixture
def prices(package):
    return load_package(package("prices"), 7)


def request(body=ROW, path="/predict", method="POST", headers="", version="1.1"):
    head = f"{method} {path} HTTP/{version}\r\nhost: here\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


_open = []


@pytest.fixture(autouse=True)
def _all_closed():
    yield
    while _open:
        _open.pop().close()


class Caller:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=10)
        _open.append(self.socket)
        self.buffer = b""

    def send(self, *parts, pause_s=0.02):
        for part in parts:
            self.socket.sendall(part)
            if len(parts) > 1:
                time.sleep(pause_s)

    def answer(self):
        """Return status, headers and body of the next answer."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = dict(each.lower().split(": ", 1) for each in rest)
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(line.split()[1]), headers, body

    def _more(self):
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("closed")
        self.buffer += more

    def is_closed(self):
        self.socket.settimeout(5)
        return self.socket.recv(1) == b""


@pytest.fixture
def caller(running, prices):
    return Caller(running(prices).address)


def price(answer):
    status, headers, body = answer
    assert status == 200, body
    said = json.loads(body)
    assert headers["charkha-id"] == said["id"]
    return said["prediction"]


def test_a_kept_connection_answers_one_request_after_the_other(caller):
    for area in (1, 2, 3):
        caller.send(request(json.dumps({"area": area}).encode()))
        assert price(caller.answer()) == pytest.approx(2 * area, abs=1e-3)


@pytest.mark.parametrize("at", [3, 8, 12, 20, 60, 75])
def test_a_request_may_come_in_pieces(caller, at):
    whole = request()
    caller.send(whole[:at], whole[at:])
    assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


def test_requests_that_follow_at_once_are_answered_in_order(caller):
    bodies = [json.dumps({"area": n}).encode() for n in range(1, 6)]
    other = request(b"", path="/other", method="GET")
    caller.send(
        request(bodies[0]) + request(bodies[1]) + other + b"".join(map(request, bodies[2:]))
    )
    assert price(caller.answer()) == pytest.approx(2, abs=1e-3)
    assert price(caller.answer()) == pytest.approx(4, abs=1e-3)
    assert caller.answer()[2] == b"GET /other 0"
    for n in (3, 4, 5):
        assert price(caller.answer()) == pytest.approx(2 * n, abs=1e-3)


def test_a_body_in_chunks_is_one_body(caller):
    head = b"POST /predict HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, ROW[:5], len(ROW) - 5, ROW[5:])
    caller.send(head, chunks)
    assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


def test_who_asks_before_sending_is_told_to_go_on(caller):
    whole = request(headers="expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    caller.send(head + b"\r\n\r\n")
    assert caller.answer()[0] == 100
    caller.send(body)
    assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


def test_a_query_or_an_encoded_path_takes_the_other_way_to_the_same_answer(caller):
    for path in ("/predict?a=1", "/pred%69ct"):
        caller.send(request(path=path))
        assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


@pytest.mark.parametrize(("version", "headers"), [("1.0", ""), ("1.1", "connection: close\r\n")])
def test_a_connection_that_is_not_to_be_kept_is_closed_after_the_answer(caller, version, headers):
    caller.send(request(version=version, headers=headers))
    status, told, _ = caller.answer()
    assert (status, told["connection"]) == (200, "close")
    assert caller.is_closed()


def test_other_methods_and_paths_are_not_for_the_short_way(caller):
    caller.send(request(b"", method="GET"))
    status, headers, _ = caller.answer()
    assert (status, headers["allow"]) == (405, "post")
    caller.send(request(b"abc", path="/predictions"))
    assert caller.answer()[2] == b"POST /predictions 3"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_in_a_readable_answer(running, prices, chunked):
    caller = Caller(running(prices, Limits(body_bytes=1000)).address)
    body = b"[" + b" " * 300_000 + b"]"
    if chunked:
        head = b"POST /predict HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
        caller.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    else:
        caller.send(request(body))
    status, headers, told = caller.answer()
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert "1,000 bytes" in json.loads(told)["detail"]
    caller.send(request())
    assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


def test_what_is_no_http_is_a_bad_request(caller):
    caller.send(b"\x16\x03\x01\x02\x00nonsense\r\n\r\n")
    assert caller.answer()[0] == 400


def test_a_caller_who_leaves_in_the_middle_harms_nobody(running, prices):
    server = running(prices)
    for at in (10, 60, len(request())):
        caller = Caller(server.address)
        caller.send(request()[:at])
        caller.socket.close()
    staying = Caller(server.address)
    staying.send(request())
    assert price(staying.answer()) == pytest.approx(16, abs=1e-3)
    assert server.call(lambda: server.variant.in_flight) == 0


def test_a_half_closed_connection_still_hears_its_answer(caller):
    caller.send(request())
    caller.socket.shutdown(socket.SHUT_WR)
    assert price(caller.answer()) == pytest.approx(16, abs=1e-3)


def test_a_draining_server_answers_and_asks_to_come_elsewhere(running, prices):
    server = running(prices)
    caller = Caller(server.address)
    caller.send(request())
    assert "connection" not in caller.answer()[1]
    server.call(lambda: setattr(server.endpoint, "draining", True))
    caller.send(request())
    status, headers, _ = caller.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert caller.is_closed()


def test_connections_that_are_quiet_for_too_long_are_closed_and_others_not(running, prices):
    server = running(prices)
    quiet, slow, busy = (Caller(server.address) for _ in range(3))
    slow.send(request()[:70])
    busy.send(request())
    busy.answer()

    def age(seconds):
        for connection in server.server.server_state.connections:
            connection.quiet_since -= seconds

    server.call(lambda: age(50))
    server.call(lambda: server.server.sweep(reading_s=30))
    assert slow.is_closed()
    busy.send(request())
    busy.answer()
    server.call(lambda: age(50))
    server.call(lambda: server.server.sweep(reading_s=30))
    assert quiet.is_closed()
    busy.send(request())
    assert price(busy.answer()) == pytest.approx(16, abs=1e-3)


class Slow:
    form = "native"

    def predict(self, rows):
        time.sleep(0.3)
        if rows[0][0] == 13:
            raise DataError("unlucky")
        return Answers([1.0] * len(rows))


def test_what_takes_too_long_is_refused_and_its_late_answer_is_nobodys(running, prices):
    object.__setattr__(prices, "predictor", Slow())
    server = running(prices, Limits(timeout_s=0.1))
    caller = Caller(server.address)
    caller.send(request())
    time.sleep(0.15)
    server.call(server.endpoint.end_late)
    status, headers, _ = caller.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    time.sleep(0.3)
    caller.send(request(b"{"))
    assert caller.answer()[0] == 400  # and not the answer to the first
    assert server.call(lambda: (server.variant.in_flight, len(server.endpoint.open))) == (0, 0)


def test_more_requests_than_the_limit_are_told_to_come_again(running, prices):
    object.__setattr__(prices, "predictor", Slow())
    server = running(prices, Limits(requests=2))
    callers = [Caller(server.address) for _ in range(3)]
    for caller in callers:
        caller.send(request())
    answers = [caller.answer() for caller in callers]
    assert sorted(status for status, _, _ in answers) == [200, 200, 429]
    busy = next(headers for status, headers, _ in answers if status == 429)
    assert busy["retry-after"] == "1"
