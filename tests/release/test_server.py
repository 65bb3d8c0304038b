"""Releases on a model server that runs, its registry and its records; the controller is killed."""

from __future__ import annotations

import json
import math
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from charkha.cli.main import main
from charkha.errors import Unavailable, UserError
from charkha.ledger import ledger_url, open_ledger
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.mlflow import MlflowRegistry
from charkha.models.registry import list_versions
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import Project, open_project
from charkha.release.kept import Release
from charkha.release.plan import STRATEGIES
from charkha.release.platforms.contract import PlatformContract
from charkha.release.platforms.port import Arm
from charkha.release.platforms.server import ServerPlatform
from charkha.states import Kept, States

from .processes import Zygote, kill, runs

TOKEN = "for this test"  # noqa: S105
SLOPES = {2: 2.0, 3: 2.02, 4: 6.0}  # version -> its model; the truth is twice the area, and noise


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def package(folder: Path, slope: float) -> Path:
    rows = pd.DataFrame({"area": np.arange(1.0, 41.0)})
    rows["price"] = slope * rows["area"]
    model = LinearRegression().fit(rows[["area"]], rows["price"])
    folder.mkdir()
    wish = Wish(name="prices", target="price", task="regression", learning_curve=False)
    build_package(model, test=rows, train=rows, wish=wish, folder=folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, with_tables) -> Project:
    root = tmp_path_factory.mktemp("released")
    (root / "token").write_text(TOKEN)
    (root / "charkha.toml").write_text(
        f'[project]\nname = "prices"\n[serving]\nport = {free_port()}\nadmin_port = {free_port()}\n'
        'admin_token = "file:token"\nfollow_s = 0.1\n'
        "[release]\nevery_s = 0.2\nstep_s = 0\nwatch_s = 0.5\nrequests = 30\nlabels = 30\n"
        'error_margin = 0.2\nlatency_margin = 20.0\nrequired = ["errors"]\n'
    )
    made = with_tables(open_project(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, matplotlib's and the converters' own affairs
        client = MlflowRegistry(made.tracking.uri)._client
        client.create_registered_model("prices")
        client.create_model_version("prices", "file:///x")
        for version, slope in SLOPES.items():
            folder = package(root / f"package-{version}", slope)
            tags = {"charkha.package": open_artifacts(made).save(Dir(folder)).digest}
            client.create_model_version("prices", "file:///x", tags=tags)
        client.set_registered_model_alias("prices", "champion", "2")
    return made


class Server:
    """A model server in a process of its own, on the ports of the project."""

    def __init__(self, project: Project) -> None:
        self._root = project.root
        self.url = f"http://127.0.0.1:{project.serving.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "charkha", "serve", "prices@champion", "--json"]
        self._process = subprocess.Popen(
            command, cwd=self._root, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["url"] == self.url

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(project: Project):
    made = Server(project)
    yield made
    made.stop()


@pytest.fixture
def served(server: Server) -> str:
    return server.url


def platform_of(project: Project, token: str | None = TOKEN) -> ServerPlatform:
    serving = project.serving
    return ServerPlatform(
        f"http://127.0.0.1:{serving.admin_port}", token, f"http://127.0.0.1:{serving.port}"
    )


def make_champion(project: Project, version: int) -> None:
    """Put the alias back, and wait until the server has followed: a test before may have moved it."""
    client = MlflowRegistry(project.tracking.uri)._client
    client.set_registered_model_alias("prices", "champion", str(version))
    while [arm.version for arm in held(project)] != [version]:
        time.sleep(0.1)


class TestServer(PlatformContract):
    @pytest.fixture
    def platform(self, project, served):
        make_champion(project, 2)
        made = platform_of(project)
        yield made
        made.set_shares({"champion": 100})
        made.drop("next")


def test_a_wrong_token_says_which_setting_it_is(project, served):
    with pytest.raises(UserError, match="wants its token"):
        platform_of(project, "another").holds()


def test_a_server_that_is_not_there_is_unavailable():
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="does not answer"):
        ServerPlatform(nobody, None, nobody).holds()


@pytest.mark.parametrize("address", ["http://[::1", "http://a..b"])
def test_an_address_that_nobody_could_ask_is_the_users(address):
    platform = ServerPlatform(address, None, address)
    for ask in (platform.holds, platform.failures):
        with pytest.raises(UserError, match=r"no address that can be asked|does not answer"):
            ask()


class Callers(threading.Thread):
    """Ask for prices, and tell afterwards what was paid."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.ended, self.failed, self.asked = threading.Event(), 0, 0
        self.versions: set[int] = set()  # that answered
        self._url, self._chance = url, random.Random(3)

    def run(self) -> None:
        with httpx.Client(base_url=self._url) as http:
            while not self.ended.is_set():
                area = self._chance.uniform(1, 40)
                try:
                    answer = http.post("/predict", json={"area": area})
                    self.asked += 1
                    if answer.status_code != 200:
                        self.failed += 1
                        continue
                    self.versions.add(int(answer.json()["version"]))
                    truth = 2 * area * self._chance.lognormvariate(0, 0.1)
                    http.post("/feedback", json={"id": answer.json()["id"], "ground_truth": truth})
                except httpx.TransportError:
                    self.failed += 1
                    time.sleep(0.1)
                time.sleep(0.003)


@pytest.fixture
def callers(served):
    thread = Callers(served)
    thread.start()
    yield thread
    thread.ended.set()
    thread.join()
    assert thread.asked > 50


def held(project: Project) -> tuple[Arm, ...]:
    """Return what the server holds; nothing while it is at a change."""
    try:
        return platform_of(project).holds()
    except Unavailable:
        return ()


@pytest.fixture
def release(project: Project):
    """Return `release(…)`, a process of that command; none of them outlives its test."""
    begun: list[subprocess.Popen[str]] = []

    def release(*command: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "charkha", "release", *command],
                cwd=project.root,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield release
    for process in begun:
        process.kill()
        process.communicate()


def story(project: Project, version: int) -> list[object]:
    ledger = open_ledger(project)
    try:
        return [d.numbers["phase"] for d in ledger.read("release", f"prices@{version}")]
    finally:
        ledger.close()


def champion(project: Project) -> int:
    return next(v.version for v in list_versions(project, "prices") if "champion" in v.aliases)


@pytest.mark.timeout(240)
def test_a_worse_version_goes_back_and_a_good_one_is_champion_though_its_controller_was_killed(
    project, served, callers, release, monkeypatch, capsys
):
    make_champion(project, 2)
    before = len(story(project, 3))
    bad = release("start", "prices@4", "--steps", "30,100")
    out, err = bad.communicate(timeout=120)
    assert bad.returncode == 1, err
    assert "worse: loss" in out
    assert champion(project) == 2

    good = release("start", "prices@3", "--steps", "50,100")
    while not story(project, 3)[before:]:
        time.sleep(0.1)
    good.kill()
    good.communicate()
    assert story(project, 3)[before:][:1] == ["judging"]
    again = release("run")
    out, err = again.communicate(timeout=180)
    assert again.returncode == 0, err
    assert champion(project) == 3
    assert story(project, 3)[before:] == ["judging", "watching", "promoted"]
    assert [(a.name, a.version, a.share) for a in held(project)] == [("champion", 3, 100)]

    assert callers.failed == 0

    monkeypatch.chdir(project.root)
    assert main(["release", "history"]) == 0
    assert "worse: loss" in capsys.readouterr().out
    assert main(["release", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"]["phase"] == "promoted"
    assert main(["release", "abort"]) == 1
    assert "has ended" in capsys.readouterr().err


@pytest.mark.timeout(240)
def test_a_release_goes_on_after_its_server_was_killed(project, server, callers, release):
    old = champion(project)
    new = 5 - old  # of 2 and 3 the other one
    going = release("start", f"prices@{new}", "--strategy", "shadow")
    while not any(arm.shadow for arm in held(project)):
        time.sleep(0.1)
    time.sleep(0.5)
    assert going.poll() is None
    server.kill()
    time.sleep(1)
    server.start()
    out, err = going.communicate(timeout=180)
    assert going.returncode == 0, err
    assert champion(project) == new
    assert [(a.name, a.version, a.share) for a in held(project)] == [("champion", new, 100)]


@pytest.fixture
def zygote():
    vendors = ("charkha.release.starting", "charkha.release.drawing", "charkha.models.mlflow")
    made = Zygote(*vendors)
    yield made
    made.close()


@pytest.fixture
def released(project: Project):
    """Return `released()`, the release as it is kept: asked in loops, so of one open database."""
    with closing(States(ledger_url(project))) as states:
        yield lambda: states.read("release", "prices") or Kept("prices", 0, {})


def end_leases(project: Project) -> None:
    """Have as much time gone by as the lease of a killed controller takes."""
    with sqlite3.connect(project.state / "ledger.db", timeout=30) as ledger:
        ledger.execute("DELETE FROM leases")
    ledger.close()


@pytest.mark.timeout(600)
def test_killed_at_random_moments_controller_and_server_lose_no_release_and_run_none_twice(
    project, server, callers, zygote, released
):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    chance, kills = random.Random(seed), {"controller": 0, "server": 0}
    log = str(project.root / "controllers.log")

    def forked(*words: str) -> int:
        return zygote.fork(project=str(project.root), words=("release", *words), log=log)

    def on(pid: int, changes: float) -> None:
        """Wait until a controller has written so much, or has ended."""
        least = released().revision + changes
        while runs(pid) and released().revision < least:
            time.sleep(0.02)

    while sum(kills.values()) < 20:
        old = champion(project)
        bad = chance.random() < 0.3
        new = 4 if bad else 5 - old
        before, strategy = len(story(project, new)), "shadow" if bad else chance.choice(STRATEGIES)
        steps = () if strategy in ("shadow", "blue-green") else ("--steps", "50,100")
        on(forked("start", f"prices@{new}", "--strategy", strategy, *steps, "--detach"), math.inf)
        callers.versions.clear()
        while released().value["ended_at"] is None:
            pid = forked("run")
            on(pid, chance.expovariate(1 / 3))
            time.sleep(chance.uniform(0, 0.2))
            whom = "server" if chance.random() < 0.2 else "controller"
            kills[whom] += 1
            if whom == "server":
                server.kill()
                server.start()
                on(pid, chance.choice([2, math.inf]))
            kill(pid)
            while runs(pid):
                time.sleep(0.01)
            end_leases(project)
        kept = Release.from_json(released().value)
        told = story(project, new)[before:]
        assert told[0] == "judging"
        assert [t for t in told if t not in ("judging", "watching")] == [kept.state.phase], log
        assert told[-1] == kept.state.phase
        assert champion(project) == (new if kept.state.phase == "promoted" else old)
        assert bad <= (kept.state.phase == "rolled back"), kept.state.because
        assert callers.versions <= ({old} if bad else {old, new})
        arms = [(a.name, a.version, a.share) for a in held(project)]
        assert arms == [("champion", champion(project), 100)]
    print(kills)
