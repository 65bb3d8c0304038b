"""What a running server keeps to while everything around it changes, and when it is killed."""

import http.client
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from load import load, post

TOKEN = {"ADMIN_TOKEN": "a-token-for-this-test-only-0123456789"}
REQUESTS = [
    post("/predict", b'{"area": %d}' % n, headers=f"charkha-key: user-{n}\r\n") for n in range(500)
]


class Tally:
    """Counts answers, and those that are not version x area or not 200."""

    def __init__(self):
        self.by_variant = Counter()
        self.of_key = {}  # request -> variants that answered it
        self.wrong = []

    def __call__(self, number, status, body):
        if status == 200:
            said = json.loads(body)
            right = abs(said["prediction"] - said["version"] * number) < 1e-3
        else:
            right, said = False, {"variant": None}
        self.by_variant[said["variant"]] += 1
        self.of_key.setdefault(number, set()).add(said["variant"])
        if not right:
            self.wrong.append((status, body))
        return right


@pytest.fixture
def project(registered):
    file = registered.root / "charkha.toml"
    text = file.read_text()
    file.write_text(text + 'admin_token = "env:ADMIN_TOKEN"\n')
    for version in (2, 1):
        registered.move("champion", version)
    registered.move("challenger", 2)
    yield registered
    file.write_text(text)  # others share the project
    registered.move("champion", 1)


def administer(server, method, path, document=None):
    headers = {"authorization": f"Bearer {TOKEN['ADMIN_TOKEN']}"}
    answer = httpx.request(
        method, f"{server.told['admin_url']}{path}", json=document, headers=headers, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def versions(server):
    return {
        v["version"] for w in administer(server, "GET", "/status")["workers"] for v in w["variants"]
    }


def test_swaps_new_shares_and_a_restart_under_load_lose_nothing(project, serve):
    variants = ("--variant", "champion=70", "--variant", "challenger=30")
    server = serve(
        project.root, *("times", "--port", "0", "--admin-port", "0"), *variants, env=TOKEN
    )
    fork = multiprocessing.get_context("fork")  # so that asking has an interpreter of its own
    ended, (results, result) = fork.Event(), fork.Pipe(duplex=False)
    asking = fork.Process(target=ask, args=(server.address, ended, result))
    asking.start()
    try:
        for swap in range(20):
            if swap == 10:
                code, _ = server.end(signal.SIGTERM)
                assert code == 0
                port = str(server.address[1])
                server = serve(
                    project.root,
                    "times",
                    *("--port", port, "--admin-port", "0"),
                    *variants,
                    env=TOKEN,
                )
            wanted = 3 + swap % 2
            project.move("champion", wanted)
            wait_for(lambda wanted=wanted, server=server: wanted in versions(server))
            for share in (10 + swap, 60, 35)[: 3 if swap % 2 else 2]:
                administer(server, "PUT", "/shares", {"champion": 100 - share, "challenger": share})
    finally:
        ended.set()
        errors, wrong, by_variant = results.recv()
        asking.join()
    assert (errors, wrong) == (0, [])
    assert sum(by_variant.values()) >= 100_000
    assert set(by_variant) == {"champion", "challenger"}


def ask(address, ended, result):
    """Ask until it is ended, and at least 100,000 times."""
    tally, errors = Tally(), 0
    while not ended.is_set() or sum(tally.by_variant.values()) < 100_000:
        errors += load(
            address,
            REQUESTS,
            tally,
            count=5_000,
            connections=16,
            ready=lambda: answers_ready(address),
        ).errors
    result.send((errors, tally.wrong[:10], tally.by_variant))


def answers_ready(address):
    """Whether a load balancer would send this server new connections."""
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_for(what, seconds=30):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def test_shares_are_as_asked_and_sticky_keys_stay(project, serve):
    server = serve(
        project.root,
        *("times", "--port", "0", "--admin-port", "0"),
        *("--variant", "champion=70", "--variant", "challenger=30"),
        env=TOKEN,
    )
    plain = [post("/predict", b'{"area": %d}' % n) for n in range(100)]
    moved = {}
    for share in (30, 30, 40, 5):
        administer(server, "PUT", "/shares", {"champion": 100 - share, "challenger": share})
        tally = Tally()
        load(server.address, plain, tally, count=5000)
        n, p = sum(tally.by_variant.values()), share / 100
        deviation = abs(tally.by_variant["challenger"] - n * p) / (n * p * (1 - p)) ** 0.5
        assert deviation < 4.5
        tally = Tally()
        load(server.address, REQUESTS, tally, count=1500)
        assert all(len(variants) == 1 for variants in tally.of_key.values())
        moved[share] = {key for key, v in tally.of_key.items() if v == {"challenger"}}
    assert moved[5] < moved[30] < moved[40]


class Kept:
    """Clients on kept connections that go elsewhere when they are asked to, as a balancer does."""

    def __init__(self, address, count=8):
        self.address, self.errors, self.answers = address, [], 0
        self.ended = threading.Event()
        self._ready = threading.Event()
        self._ready.set()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        while not self.ended.is_set():
            try:
                connection.request("POST", "/predict", b'{"area": 5}')
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.errors.append((answer.status, body))
                self.answers += 1
                if answer.getheader("connection") == "close":
                    connection.close()
                    self._wait()
            except OSError as e:
                self.errors.append(e)
                return
        connection.close()

    def _wait(self):
        while not self.ended.is_set():
            try:
                if httpx.get(f"http://{self.address[0]}:{self.address[1]}/readyz").is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.02)

    def end(self):
        self.ended.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_restart_behind_a_client_that_drains_loses_no_request(project, serve, workers):
    first = serve(project.root, "times", "--port", "0", "--workers", str(workers))
    clients = Kept(first.address)
    try:
        time.sleep(0.3)
        code, _ = first.end(signal.SIGTERM)
        assert code == 0
        before = clients.answers
        serve(project.root, "times", "--port", str(first.address[1]), "--workers", str(workers))
        wait_for(lambda: clients.answers > before + 100)
    finally:
        clients.end()
    assert clients.errors == []


def test_a_server_without_a_connection_stays_for_who_called_lately(project, serve):
    server = serve(project.root, "times", "--port", "0")
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
    for _ in range(10):  # each over a connection of its own
        answer = httpx.post(f"{server.url}/predict", json={"area": 5})
        assert answer.json()["prediction"] == pytest.approx(5, abs=1e-3)
        assert answer.headers["connection"] == "close"
        time.sleep(0.02)
    code, _ = server.end()
    assert code == 0


class Killed:
    """Callers who write down every prediction that they saw acknowledged."""

    def __init__(self, address, count=4):
        self.address, self.acknowledged, self.wrong = address, [], []
        self.ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        while not self.ended.is_set():
            connection = http.client.HTTPConnection(*self.address, timeout=30)
            try:
                while not self.ended.is_set():
                    connection.request("POST", "/predict", b'[{"area": 5}, {"area": 6}]')
                    answer = connection.getresponse()
                    said = json.loads(answer.read())
                    if answer.status == 200:
                        self.acknowledged += said["ids"]
                    else:
                        self.wrong.append(said)
            except (OSError, http.client.HTTPException, ValueError):  # it was killed, as agreed
                time.sleep(0.01)
            finally:
                connection.close()

    def end(self):
        self.ended.set()
        for thread in self._threads:
            thread.join()


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_was_acknowledged_is_recorded_once_after_100_kills(project, serve):
    random_ = random.Random(3)
    start = ("times", "--workers", "2", "--port")
    server = serve(project.root, *start, "0")
    callers = Killed(server.address)
    try:
        for kill in range(100):
            time.sleep(random_.uniform(0.02, 0.25))
            workers = children(server.process.pid)
            if kill % 10:
                if workers:
                    os.kill(random_.choice(workers), signal.SIGKILL)
                continue
            for pid in (server.process.pid, *workers):
                os.kill(pid, signal.SIGKILL)
            server.process.communicate()
            server = serve(project.root, *start, str(server.address[1]))
    finally:
        callers.end()
        code, _ = server.end()
    assert code == 0
    assert callers.wrong == []
    assert len(callers.acknowledged) > 1000
    recorded = Counter(read_ids(project.root))
    assert set(callers.acknowledged) <= recorded.keys()
    assert set(recorded.values()) == {1}


def read_ids(root):
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import charkha; print(*charkha.read_records('times')['id'].to_pylist())",
        ],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.split()
