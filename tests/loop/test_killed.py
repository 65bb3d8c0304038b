"""The wheel turned by processes that are killed: loop, run, tracker and model server, with callers.

All of them are real, and so are the registry, the records and the ledger. What was drawn is printed with
its seed; KILLS=100 in the environment kills as often, SEED=7 draws the same again.
"""

import json
import os
import random
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from urllib.request import urlopen

import httpx
import pytest

from charkha.errors import Unavailable
from charkha.ledger import ledger_url, open_ledger
from charkha.loop.opening import ask
from charkha.loop.turns import Kept
from charkha.models.registry import list_versions
from charkha.pipeline.runs import list_runs
from charkha.project import open_project
from charkha.release.platforms.server import ServerPlatform
from charkha.states import States

from ..release.processes import Zygote, kill, runs  # noqa: TID252  # its neighbour

KILLS = int(os.environ.get("KILLS", "15"))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
RUN, TRACKER = "charkha", "charkha.models.tracker"  # modules of what the loop and its run start
SETTINGS = """
[project]
name = "prices"
[model]
target = "price"
[pipeline.params]
slope = {slope}
blunt = {blunt}
[serving]
port = {port}
admin_port = {admin_port}
admin_token = "file:token"
follow_s = 0.1
[release]
every_s = 0.1
step_s = 0
watch_s = 0.3
requests = 30
labels = 30
error_margin = 0.2
latency_margin = 20.0
required = ["errors"]
[loop]
every_s = 0.2
strategy = "{strategy}"
{steps}
until_param = "until"
[[trigger]]
on = "data"
"""
PIPELINE = """
import time

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from charkha import pipeline, register, step


@step(outputs=("train", "test"))
def sales(slope: float, until: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    chance = np.random.default_rng(list(until.encode()))
    rows = pd.DataFrame({"area": chance.uniform(1, 40, 200)})
    rows["price"] = slope * rows["area"] + chance.normal(0, 0.01, 200)
    return rows[:150], rows[150:]


@step
def fit(train: pd.DataFrame, blunt: bool) -> LinearRegression:
    time.sleep(0.2)
    told = train["price"].iloc[::-1].to_numpy() if blunt else train["price"]
    return LinearRegression().fit(train[["area"]], told)


@pipeline
def prices(slope: float = 2.0, blunt: bool = False, until: str = "") -> None:
    train, test = sales(slope, until)
    register(fit(train, blunt), train=train, test=test, name="prices", learning_curve=False)
"""
IMPORTED = (
    "charkha.cli.loop",
    "charkha.cli.run",
    "charkha.cli.serve",
    "charkha.loop.opening",
    "charkha.models.build",
    "charkha.models.filling",
    "charkha.models.following",
    "charkha.models.judging",
    "charkha.models.register",
    "charkha.serving.server",
    "charkha.serving.fastapi_admin",
    "charkha.serving.records.sealing",
    "mlflow.sklearn",
    "onnxruntime",
    "pandas",
    "sklearn.linear_model",
)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Callers(threading.Thread):
    """Ask for prices, and tell at once what was paid: twice the area, more or less."""

    def __init__(self, wheel):
        super().__init__()
        self.ended, self.said, self.failures, self.asked = threading.Event(), {}, [], 0
        self._wheel, self._chance = wheel, random.Random(3)

    def run(self):
        with httpx.Client(base_url=f"http://127.0.0.1:{self._wheel.port}", timeout=60) as http:
            while not self.ended.is_set():
                before = self._wheel.deaths
                try:
                    self._ask(http)
                except (httpx.TransportError, AssertionError) as e:
                    if before == self._wheel.deaths and not self._wheel.down:
                        self.failures.append(e)
                    time.sleep(0.05)
                time.sleep(0.003)

    def _ask(self, http):
        area = self._chance.uniform(1, 40)
        answer = http.post("/predict", json={"area": area})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        self.asked += 1
        self.said.setdefault(int(told["version"]), []).append(told["prediction"] / area)
        truth = 2 * area * self._chance.lognormvariate(0, 0.1)
        http.post("/feedback", json={"id": told["id"], "ground_truth": truth})


class Wheel:
    """A project with everything that turns it, in processes that a test may kill."""

    def __init__(self, root, zygote):
        self.port, self.deaths, self.down = free_port(), 0, True
        self._root, self._zygote, self._admin_port = root, zygote, free_port()
        root.mkdir()
        (root / "token").write_text("of this test")
        (root / "pipeline.py").write_text(PIPELINE)
        self.write()
        self.project = open_project(root)
        self.log = root.parent / "log"
        self._server = 0
        self.loops = []
        self.states = None

    def write(self, *, slope=2.0, blunt=False, strategy="shadow"):
        """Write the settings."""
        (self._root / "charkha.toml").write_text(
            SETTINGS.format(
                slope=slope,
                blunt=str(blunt).lower(),
                strategy=strategy,
                steps='steps = "50,100"' if strategy in ("canary", "rolling") else "",
                port=self.port,
                admin_port=self._admin_port,
            )
        )

    def fork(self, *words, log=None):
        log = str(log or self.log)
        return self._zygote.fork(project=str(self._root), words=words, log=log)

    def says(self, *words):
        """Return what a command says with --json."""
        file = self._root.parent / "said"
        file.unlink(missing_ok=True)
        pid = self.fork(*words, "--json", log=file)
        wait_for(lambda: not runs(pid), words)
        return json.loads(file.read_text())

    def begin(self):
        """Train the first champion and serve it."""
        wait_for(lambda: not runs(first), first := self.fork("run"))
        self.states = States(ledger_url(self.project))
        self.serve()

    def serve(self):
        self._server = self.fork("serve", "prices@champion")
        wait_for(self._is_ready, self._server)
        self.down = False

    def kill_server(self, for_s):
        self.down, self.deaths = True, self.deaths + 1
        self.end(self._server)
        time.sleep(for_s)
        self.serve()

    def _is_ready(self):
        assert runs(self._server), self.log.read_text()[-3000:]
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
            return True
        return False

    def end(self, pid):
        kill(pid)
        wait_for(lambda: not runs(pid), pid)

    def started(self, module):
        return self._zygote.started(module)

    def end_leases(self):
        """Have as much time gone by as the leases of a killed loop take."""
        ledger = sqlite3.connect(self.project.state / "ledger.db", timeout=30)
        with closing(ledger), ledger:
            ledger.execute("DELETE FROM leases")

    def kept(self):
        found = self.states.read("loop", "prices")
        return None if found is None else Kept.from_json(found.value)

    def revision(self, kind):
        found = self.states.read(kind, "prices")
        return 0 if found is None else found.revision

    def told(self, kind, turn):
        """Return what the ledger has of a turn."""
        with closing(open_ledger(self.project)) as ledger:
            return [d for d in ledger.read(kind, "prices") if d.numbers.get("turn") == turn]

    def moves(self):
        """Return who became champion, as the ledger has it."""
        with closing(open_ledger(self.project)) as ledger:
            told = ledger.read(subject="prices")
        return [d.subject for d in told if d.kind in ("promotion", "rollback")]

    def versions(self):
        return {v.version: v for v in list_versions(self.project, "prices")}

    def slopes(self):
        """Return what each version has learnt from: how many times its area a house costs."""
        told = {n: json.loads(v.tags["charkha.params"]) for n, v in self.versions().items()}
        return {n: float(params["slope"]) for n, params in told.items()}

    def champion(self):
        return next(n for n, v in self.versions().items() if "champion" in v.aliases)

    def held(self):
        platform = ServerPlatform(
            f"http://127.0.0.1:{self._admin_port}", "of this test", f"http://127.0.0.1:{self.port}"
        )
        while True:
            with suppress(Unavailable):  # it is at a change
                return [(arm.name, arm.version, arm.share) for arm in platform.holds()]
            time.sleep(0.05)

    def close(self):
        started = [pid for module in (RUN, TRACKER) for pid in self.started(module)]
        for pid in (*self.loops, *started, self._server):
            kill(pid)
        self._zygote.close()


def wait_for(reached, of, timeout_s=180):
    until = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < until, of
        time.sleep(0.01)


@pytest.fixture
def wheel(tmp_path):
    made = Wheel(tmp_path / "prices", Zygote(*IMPORTED, launcher=tmp_path / "python"))
    yield made
    made.close()


@pytest.fixture
def callers(wheel):
    wheel.begin()
    thread = Callers(wheel)
    thread.start()
    yield thread
    thread.ended.set()
    thread.join()


class Turn:
    """A wish, and everybody killed until it was served."""

    def __init__(self, wheel, chance, kills):
        self._wheel, self._chance, self._kills = wheel, chance, kills
        self.may_fail, self.failed = chance.random() < 0.2, False  # as its run is killed alone
        self.kind = chance.choice(["good", "good", "bad", "refused"])
        most = {"wished": 2, "training": 4, "releasing": 12, "ended": 0}
        self._left = {phase: chance.randint(most // 2, most) for phase, most in most.items()}
        self.before = wheel.kept()
        self.champion, self.versions = wheel.champion(), set(wheel.versions())
        good = 1.99 if wheel.slopes()[self.champion] > 1.995 else 2.01
        wheel.write(
            slope=6.0 if self.kind == "bad" else good,
            blunt=self.kind == "refused",
            strategy="shadow"
            if self.kind == "bad"
            else chance.choice(["canary", "blue-green", "rolling", "shadow"]),
        )
        self.wish = ask(wheel.project, "prices", self.kind)

    @property
    def now(self):
        kept = self._wheel.kept()
        turn = kept and kept.turn
        return turn if turn and turn.request == self.wish else None

    @property
    def phase(self):
        return self.now.phase if self.now else "wished"

    @property
    def over(self):
        return self.phase == "ended"

    def carry_out(self):
        wheel, chance = self._wheel, self._chance
        while not self.over:
            wheel.loops = [pid for pid in wheel.loops if runs(pid)]
            if not wheel.loops:
                wheel.loops = [
                    wheel.fork("loop", "--daemon") for _ in range(chance.choice([1, 1, 1, 2]))
                ]
            self._wait_for_a_moment()
            if not self.over:
                self._kill_somebody()
        for pid in wheel.loops:
            os.kill(pid, signal.SIGTERM)
        for pid in wheel.loops:
            wait_for(lambda pid=pid: not runs(pid), "a loop that was asked to end")
        for module in (RUN, TRACKER):
            wait_for(lambda module=module: not wheel.started(module), module)

    def _wait_for_a_moment(self):
        """Wait until somebody is to be killed, by what was done: a busy machine does less in a time."""
        wheel, chance, phase = self._wheel, self._chance, self.phase
        least = wheel.revision("release") + chance.expovariate(1 / 3)
        until = time.monotonic() + (60 if phase == "releasing" else chance.uniform(0, 4))
        while self.phase == phase != "ended" and any(map(runs, wheel.loops)):
            done = phase == "releasing" and wheel.revision("release") >= least
            if self._left[phase] and (done or time.monotonic() > until):
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))

    def _kill_somebody(self):
        wheel, chance, phase = self._wheel, self._chance, self.phase
        if not self._left[phase]:
            return
        self._left[phase] -= 1
        victims = {
            "loop": (wheel.loops, 6),
            "server": ([], 2),
            "tracker": (tracking := wheel.started(TRACKER), bool(tracking)),
            "run": (running := wheel.started(RUN), 3 * self.may_fail * bool(running)),
            "loop and run": ([*wheel.loops, *running], bool(running)),
        }
        whom = chance.choices(list(victims), [weight for _, weight in victims.values()])[0]
        self._kills[f"{whom} while {phase}"] += 1
        self.failed |= whom == "run"
        if whom == "server":
            wheel.kill_server(chance.choice([0, 0, 1]))
        for pid in victims[whom][0]:
            wheel.end(pid)
        if whom.startswith("loop"):
            wheel.end_leases()


def is_whole(turn, wheel, callers):
    """Whether a turn that has ended was told once, in order, and serves what it should."""
    now = turn.now
    made = set(wheel.versions()) - turn.versions
    story = wheel.told("loop", now.id)
    phases = [d.numbers["phase"] for d in story]
    assert [d.at for d in story] == sorted({d.at for d in story})
    released = wheel.told("release", now.id)
    if now.outcome == "failed":
        assert turn.failed
        assert "was killed" in now.because
        assert phases == ["training", "ended"]
    else:
        ends = {"good": "promoted", "bad": "rolled back", "refused": "refused"}
        assert now.outcome == ends[turn.kind], now.because
        assert made == {now.version}
        between = [] if turn.kind == "refused" else ["releasing"]
        assert phases == ["training", *between, "ended"]
    if now.outcome in ("failed", "refused"):
        assert released == []
    else:
        told = [d.numbers["phase"] for d in released]
        assert {d.numbers["to"] for d in released} == {now.version}
        assert len({d.numbers["release"] for d in released}) == 1
        assert told[0] == "judging"
        assert [p for p in told if p not in ("judging", "watching")] == [now.outcome]
        assert told[-1] == now.outcome
        assert len({(d.numbers["phase"], d.numbers["stage"]) for d in released}) == len(told)
    champion = now.version if now.outcome == "promoted" else turn.champion
    assert wheel.champion() == champion
    wait_for(lambda: wheel.held() == [("champion", champion, 100)], "the server follows")
    assert set(callers.said) <= {turn.champion, champion}
    slopes = wheel.slopes()
    for version, said in callers.said.items():
        assert all(abs(each - slopes[version]) < 0.1 for each in said), version
    begun = () if turn.before is None else turn.before.begun
    assert len(wheel.kept().begun) == len(begun) + 1
    return True


@pytest.mark.timeout(240 + 20 * KILLS)
def test_killed_at_random_moments_no_turn_is_lost_and_none_is_run_twice(wheel, callers):
    print("SEED", SEED)
    chance, kills, turns = random.Random(SEED), Counter(), []
    while kills.total() < KILLS:
        callers.said.clear()
        turn = Turn(wheel, chance, kills)
        turn.carry_out()
        assert is_whole(turn, wheel, callers), wheel.log.read_text()[-3000:]
        turns.append(turn.now)
        print(turn.kind, turn.now.outcome, kills.total(), "kills", flush=True)
        assert wheel.moves() == [
            f"prices@{each.version}" for each in turns if each.outcome == "promoted"
        ]
    print([(turn.because, turn.outcome) for turn in turns])
    print(kills.total(), "kills:", dict(kills), "and", callers.asked, "answers")
    assert callers.failures == []
    assert not [run.id for run in list_runs(wheel.project) if run.status == "running"]
    assert wheel.says("loop", "--status")["turn"]["id"] == turns[-1].id
    told = [decision["numbers"]["turn"] for decision in wheel.says("release", "history")]
    assert list(dict.fromkeys(told)) == [
        turn.id for turn in turns if turn.outcome in ("promoted", "rolled back")
    ]
