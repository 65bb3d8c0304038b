"""Releases while everything around them fails: controllers killed, a ledger locked, clocks that jump.

Controllers are processes that run what `charkha release run` runs, with a real ledger; the service that
they release on, with its callers, lives in the memory of the test.
"""

import random
import resource
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Listener
from types import SimpleNamespace

import pytest

from charkha.cli import release as command
from charkha.errors import CharkhaError, Unavailable
from charkha.release.controller import LEASE_S, Controller
from charkha.release.platforms.server import ServerPlatform

from .processes import Zygote, kill, runs
from .world import NEW, OLD, World

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def zygote():
    made = Zygote("charkha.release.controller", "charkha.release.drawing", "charkha.release.kept")
    yield made
    made.close()


class Service(World):
    """A world for controllers in processes of their own; what they ask is written down."""

    def __init__(self, folder, zygote, **how):
        self.offset_s, self.away, self.asked, self.trouble = 0.0, 0, 0, []
        self._zygote, self._folder = zygote, folder
        self._lock = threading.RLock()
        super().__init__(folder, **how)
        self._listener = Listener(str(folder / "link"), "AF_UNIX", backlog=16)
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def ledger_file(self):
        return self._folder / "ledger.db"

    def begin(self, **limits):
        """Begin another controller; return its pid."""
        return self._zygote.fork(
            address=str(self._folder / "link"),
            ledger=f"sqlite:///{self.ledger_file}",
            log=str(self._folder / "log"),
            **limits,
        )

    def clock(self):
        return self.now + self.offset_s

    def records(self, since):
        self.pass_time(30.0)  # between two looks
        return super().records(since)

    def said(self):
        log = self._folder / "log"
        return log.read_text() if log.exists() else ""

    def _listen(self):
        with suppress(OSError):
            while True:
                link = self._listener.accept()
                threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link):
        with suppress(EOFError, ConnectionError), link:
            while True:
                name, method, given, named = link.recv()
                link.send(self._called(name, method, given, named))

    def _called(self, name, method, given, named):
        thing = self if name == "world" else getattr(self, name)
        self.asked += 1
        with self._lock:
            if self.away and name != "world":
                self.away -= 1
                return False, Unavailable(f"the {name} is away")
            try:
                return True, getattr(thing, method)(*given, **named)
            except AssertionError as e:
                self.trouble.append(e)
                return False, Unavailable("the test has found something")
            except CharkhaError as e:
                return False, e

    def close(self):
        self._listener.close()
        super().close()


@pytest.fixture
def service(tmp_path, zygote):
    """Return `service(…)`: a service whose release has begun, and nobody carries it out."""
    made = []

    def service(**how):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Service(folder, zygote, **how))
        return made[-1]

    yield service
    for each in made:
        each.close()


def is_whole(service):
    """Whether a release that has ended was told once, in order, and serves what it should."""
    kept, story = service.kept(), service.ledger.read("release")
    phases = [d.numbers["phase"] for d in story]
    stages = [d.numbers["stage"] for d in story]
    good = service.worse == 1.0 and not service.failing
    assert service.trouble == []
    assert phases[0] == "judging"
    assert [p for p in phases if p not in ("judging", "watching")] == [kept.state.phase]
    ended = "promoted" if good else "rolled back"
    assert phases[-1] == kept.state.phase == ended, kept.state.because
    assert stages == sorted(stages)
    assert len({(d.numbers["phase"], d.numbers["stage"]) for d in story}) == len(story)
    assert [d.at for d in story] == sorted({d.at for d in story})
    held = [(arm.name, arm.version, arm.share) for arm in service.platform.holds()]
    assert held == [("champion", NEW if good else OLD, 100)]
    assert service.aliases.moves == ([NEW] if good else [])
    return True


def wait_for(service, pid):
    until = time.monotonic() + 60
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.005)
    assert not runs(pid), service.said()


def shaken(service, chance):
    """Carry a release out, whose controllers are killed at random moments; return how many were."""
    killed = 0
    while service.kept().ended_at is None:
        pids = [service.begin() for _ in range(chance.choice([1, 1, 1, 2]))]
        # by what was done, not by time: a busy machine does less in the same time
        service.asked, enough = 0, chance.expovariate(1 / 12)
        while service.asked < enough and any(map(runs, pids)):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.004))
        for pid in pids:
            killed += runs(pid)
            kill(pid)
            wait_for(service, pid)
        with service._lock:
            if service.offset_s > 0:
                service.now += DAY_S  # nobody asks, until the clock that was wrong is right again
            service.offset_s = chance.choice([0, 0, 0, DAY_S, -DAY_S])
            service.now += chance.choice([0.0, LEASE_S + 1, LEASE_S + 1])
            service.away = chance.choice([0, 0, 3])
        assert killed < 300, service.said()
    return killed


@pytest.mark.timeout(600)
def test_controllers_killed_at_random_moments_lose_no_release_and_run_none_twice(service):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    chance, killed, releases = random.Random(seed), 0, 0
    while killed < 80:
        strategy = chance.choice(["canary", "shadow", "rolling"])
        each = service(worse=chance.choice([1.0, 1.0, 2.0]), strategy=strategy, most_s=1e9)
        killed += shaken(each, chance)
        assert is_whole(each)
        releases += 1
    print(releases, "releases", killed, "kills")
    assert releases > 1


def until_said(service, word, pid):
    until = time.monotonic() + 60
    while word not in service.said():
        assert runs(pid), service.said()
        assert time.monotonic() < until, service.said()
        time.sleep(0.01)


def test_a_controller_waits_while_another_process_has_the_ledger_locked(service):
    made = service()
    pid = made.begin(busy_s=0.2)
    while made.asked < 3:
        time.sleep(0.001)
    with closing(sqlite3.connect(made.ledger_file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        until_said(made, "waiting: the ledger", pid)
        assert "locked" in made.said()
        other.execute("COMMIT")
    wait_for(made, pid)
    assert is_whole(made)


def test_a_controller_waits_while_the_disk_is_full(service):
    made = service()
    pid = made.begin(most_bytes=4096)  # nothing can be written behind them
    until_said(made, "waiting: the ledger", pid)
    arms = made.platform.holds()
    assert [(arm.version, arm.share) for arm in arms if arm.share] == [(OLD, 100)]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    wait_for(made, pid)
    assert is_whole(made)


def test_a_controller_waits_for_a_platform_and_a_registry_that_are_away(service):
    made = service()
    made.away = 40
    pid = made.begin()
    until_said(made, "is away", pid)
    wait_for(made, pid)
    assert made.away == 0
    assert is_whole(made)


@pytest.fixture
def nobody():
    """Return a platform whose server is away: nothing listens where it was."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    return ServerPlatform(address, None, address)


@pytest.mark.parametrize("strategy", ["canary", "shadow"])
@pytest.mark.parametrize("phase", ["judging", "watching"])
def test_a_server_that_is_away_for_longer_than_any_limit_decides_nothing(
    tmp_path, nobody, strategy, phase
):
    """Without requests no time passes: neither `most_s` nor `watch_s` are over when it is back."""
    with closing(World(tmp_path, strategy=strategy, step_s=60, most_s=900, watch_s=600)) as made:
        while made.kept().span is None or made.kept().state.phase != phase:
            made.controller.tick()
            made.pass_time(10)
        before, story, asked = made.kept(), made.story(), len(made.rows)
        away = Controller("prices", replace(made.around, platform=nobody), who="eve")
        made.now += LEASE_S + 1  # the lease of the one before is over
        for _ in range(10):
            with pytest.raises(Unavailable, match="does not answer"):
                away.tick()
            made.now += DAY_S
        assert (made.kept(), made.story()) == (before, story)
        made.platform.set_shares({"champion": 100})  # as a server that begins anew
        for arm in made.platform.holds():
            if arm.name != "champion":
                made.platform.drop(arm.name)
        made.run()
        ended = made.kept()
        assert ended.state.phase == "promoted", ended.state.because
        assert ended.verdict["total_s"] < 3 * 900
        assert made.aliases.moves == [NEW]
        assert len(made.rows) > asked


def test_a_command_gives_up_on_a_server_that_stays_away_and_the_release_goes_on_with_the_next(
    tmp_path, nobody, monkeypatch, capsys
):
    monkeypatch.setattr(command, "_PATIENCE_S", 0.2)
    project = SimpleNamespace(release=SimpleNamespace(every_s=0.05))
    with closing(World(tmp_path)) as made:
        before = made.kept()
        with pytest.raises(Unavailable, match="does not answer"):
            command._carry_out(
                project, replace(made.around, platform=nobody), "prices", as_json=False
            )
        assert capsys.readouterr().err.count("waiting: the server") == 1
        assert made.kept() == before
        assert made.run().state.phase == "promoted"


def test_a_server_that_takes_connections_and_says_nothing_is_unavailable(monkeypatch):
    monkeypatch.setattr("charkha.release.platforms.server._TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match="timed out"):
            ServerPlatform(address, None, address).holds()


class Babbling(BaseHTTPRequestHandler):
    """Answers everything with what the test wants."""

    def do_GET(self):
        status, body = self.server.says
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *said):
        pass


@pytest.mark.parametrize(
    "says",
    [
        (500, b"oops"),
        (503, b'{"detail": "later"}'),
        (200, b"<html>a login page</html>"),
        (200, b"\xff\xfe\x00"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"workers": [], "variants": [{"name": 1}]}'),
        (200, b'{"workers": 7}'),
    ],
)
def test_an_administration_api_that_answers_nonsense_is_unavailable(says):
    with ThreadingHTTPServer(("127.0.0.1", 0), Babbling) as server:
        server.says = says
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        platform = ServerPlatform(address, None, address)
        for ask in (
            platform.holds,
            platform.failures,
            lambda: platform.add("next", 3, shadow=False),
            lambda: platform.set_shares({"next": 100}),
            lambda: platform.drop("next"),
        ):
            with pytest.raises(Unavailable):
                ask()
        server.shutdown()
