"""The load generator of the benchmarks, against a server that misbehaves when it is told to."""

import importlib.util
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "load.py"


def _loaded():
    spec = importlib.util.spec_from_file_location("benchmarks_load", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


loading = _loaded()
HEAD = b"HTTP/1.1 %d OK\r\n%bContent-Length: %d\r\n\r\n"


def answer(body, status=200, headers=b""):
    return HEAD % (status, headers, len(body)) + body


class Server:
    """Answers each body with what `behave(connection, body)` sends; False closes the connection."""

    def __init__(self, behave, port=0):
        self.behave = behave
        self.accepted = 0
        self.listening = socket.create_server(("127.0.0.1", port))
        self.address = self.listening.getsockname()
        self.open = []
        self.running = threading.Thread(target=self.accept, daemon=True)
        self.running.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.append(connection)
            threading.Thread(target=self.talk, args=[connection], daemon=True).start()

    def talk(self, connection):
        with connection:
            while body := self.read(connection):
                if self.behave(connection, body) is False:
                    return

    def read(self, connection):
        said = b""
        try:
            while b"\r\n\r\n" not in said:
                if not (more := connection.recv(65536)):
                    return None
                said += more
            head, _, body = said.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
        except OSError:
            return None
        return body

    def stop(self):
        if self.listening.fileno() < 0:
            return
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.running.join()
        for connection in self.open:
            connection.close()


@pytest.fixture
def served():
    servers = []

    def served(behave, port=0):
        servers.append(Server(behave, port))
        return servers[-1]

    yield served
    for server in servers:
        server.stop()


REQUESTS = [loading.post("/predict", b"%d" % number) for number in range(8)]


def echoed(number, status, body):
    return status == 200 and body == b"%d" % number


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def echo(connection, body):
    connection.sendall(answer(body))


def test_each_request_is_sent_as_often_as_asked_and_each_answer_counts(served):
    heard = []

    def behave(connection, body):
        heard.append(body)
        echo(connection, body)

    outcome = loading.load(served(behave).address, REQUESTS, echoed, connections=3, count=16)
    assert sorted(heard) == sorted(2 * [b"%d" % n for n in range(8)])
    assert (outcome.answers, outcome.in_time, outcome.wrong, outcome.errors) == (16, 16, 0, 0)
    assert len(outcome.latencies_s) == 16
    assert outcome.failures == []


def test_connections_are_kept(served):
    server = served(echo)
    loading.load(server.address, REQUESTS, echoed, connections=3, count=60)
    assert server.accepted == 3


def test_fewer_requests_than_connections_open_no_more_connections(served):
    server = served(echo)
    outcome = loading.load(server.address, REQUESTS, echoed, connections=32, count=2)
    assert (server.accepted, outcome.answers) == (2, 2)


def test_a_load_of_some_seconds_ends_and_counts_what_came_in_time(served):
    outcome = loading.load(served(echo).address, REQUESTS, echoed, connections=2, seconds=0.1)
    assert 0 < outcome.in_time <= outcome.answers <= outcome.in_time + 2
    assert outcome.seconds == 0.1
    assert outcome.per_second == outcome.in_time / 0.1


def test_an_answer_after_the_time_is_checked_but_is_not_in_the_rate(served):
    def late(connection, body):
        time.sleep(0.2)
        connection.sendall(answer(b"not it"))

    outcome = loading.load(served(late).address, REQUESTS, echoed, connections=2, seconds=0.05)
    assert (outcome.in_time, outcome.answers, outcome.wrong) == (0, 2, 2)
    assert outcome.per_second == 0


def test_a_wrong_answer_is_told_with_its_request(served):
    def behave(connection, body):
        connection.sendall(answer(b"7" if body == b"3" else body))

    outcome = loading.load(served(behave).address, REQUESTS, echoed, connections=2, count=16)
    assert (outcome.answers, outcome.wrong, outcome.errors) == (16, 2, 0)
    assert outcome.failures == 2 * [loading.Failure(3, 200, b"7")]


def test_an_answer_of_somebody_else_is_wrong(served):
    both = threading.Barrier(2)
    bodies = {}

    def swap(connection, body):
        bodies[threading.get_ident()] = body
        both.wait(10)
        other = next(b for who, b in bodies.items() if who != threading.get_ident())
        connection.sendall(answer(other))

    outcome = loading.load(served(swap).address, REQUESTS, echoed, connections=2, count=2)
    assert (outcome.answers, outcome.wrong) == (2, 2)


def test_a_status_is_seen_by_the_check(served):
    def behave(connection, body):
        connection.sendall(answer(body, status=503))

    outcome = loading.load(served(behave).address, REQUESTS, echoed, connections=1, count=3)
    assert [failure.status for failure in outcome.failures] == [503, 503, 503]
    assert outcome.errors == 0


@pytest.mark.parametrize("begun", [b"", answer(b"3")[:20], answer(b"3")[:-1]])
def test_a_reset_in_a_request_is_an_error_and_the_load_goes_on(served, begun):
    def behave(connection, body):
        if body != b"3":
            return echo(connection, body)
        connection.sendall(begun)
        return reset(connection)

    server = served(behave)
    outcome = loading.load(server.address, REQUESTS, echoed, connections=2, count=16)
    assert (outcome.answers, outcome.wrong, outcome.errors) == (14, 0, 2)
    assert [(f.number, f.status) for f in outcome.failures] == [(3, 0), (3, 0)]
    assert server.accepted >= 3  # after the second reset there may be nothing left to ask


def test_a_connection_that_was_announced_to_close_is_no_error(served):
    def behave(connection, body):
        connection.sendall(answer(body, headers=b"Connection: close\r\n"))
        return False

    server = served(behave)
    outcome = loading.load(server.address, REQUESTS, echoed, connections=2, count=10)
    assert (outcome.answers, outcome.wrong, outcome.errors) == (10, 0, 0)
    assert server.accepted == 10


def test_an_answer_may_come_byte_by_byte(served):
    def behave(connection, body):
        for byte in answer(body):
            connection.sendall(bytes([byte]))

    outcome = loading.load(served(behave).address, REQUESTS, echoed, connections=2, count=8)
    assert (outcome.answers, outcome.wrong, outcome.errors) == (8, 0, 0)


def test_more_than_the_announced_length_is_an_error(served):
    def behave(connection, body):
        connection.sendall(answer(body) + b"and more")

    outcome = loading.load(served(behave).address, REQUESTS, echoed, connections=1, count=2)
    assert (outcome.answers, outcome.errors) == (0, 2)


def test_an_answer_without_a_length_is_refused(served):
    def behave(connection, body):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    with pytest.raises(ValueError, match="without a length"):
        loading.load(served(behave).address, REQUESTS, echoed, connections=1, count=1)


def test_what_is_never_answered_is_an_error(served):
    def behave(connection, body):
        if body != b"3":
            echo(connection, body)

    outcome = loading.load(
        served(behave).address, REQUESTS, echoed, connections=2, count=8, patience_s=0.2
    )
    assert (outcome.answers, outcome.errors) == (7, 1)
    assert outcome.failures == [loading.Failure(3, 0, b"no answer")]


def test_a_server_that_comes_back_is_asked_again(served, monkeypatch):
    refused = threading.Event()
    plain = loading.connect

    def connect(*arguments, **options):
        try:
            return plain(*arguments, **options)
        except ConnectionRefusedError:
            refused.set()
            raise

    def dies(connection, body):
        first.listening.shutdown(socket.SHUT_RDWR)
        first.listening.close()
        return reset(connection)

    def come_back():
        refused.wait(30)
        served(echo, first.address[1])

    first = served(dies)
    returning = threading.Thread(target=come_back)
    returning.start()
    monkeypatch.setattr(loading, "connect", connect)
    outcome = loading.load(first.address, REQUESTS, echoed, connections=1, count=8)
    returning.join()
    assert (outcome.answers, outcome.wrong, outcome.errors) == (7, 0, 1)
    assert outcome.refused > 0


def test_nobody_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with pytest.raises(ConnectionRefusedError, match="nobody listens"):
        loading.load(address, REQUESTS, echoed, connections=2, count=2, patience_s=0.1)


def test_quantiles_are_of_all_answers():
    outcome = loading.Outcome(latencies_s=[n / 1000 for n in range(100, 0, -1)])
    assert (outcome.quantile_ms(0), outcome.quantile_ms(0.5)) == (1.0, 51.0)
    assert (outcome.quantile_ms(0.99), outcome.quantile_ms(1)) == (100.0, 100.0)
    assert loading.Outcome().quantile_ms(0.5) == 0
