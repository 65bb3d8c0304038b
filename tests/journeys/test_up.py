"""`charkha up`: the whole platform, killed in every way, and found by other commands."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from charkha.cli.main import COMMANDS

pytestmark = pytest.mark.timeout(180)
CHARKHA = Path(sys.executable).with_name("charkha")
WAIT_S = 30.0


class Up:
    """A `charkha up --json` that runs, and what it told."""

    def __init__(self, houses, root, *options):
        self.root, self.environment = root, houses.environment
        self.process = subprocess.Popen(
            [CHARKHA, "up", "--json", *options],
            cwd=root,
            env=houses.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = []

    def until(self, event, part=None):
        for line in self.process.stdout:
            self.told.append(json.loads(line))
            if self.told[-1]["event"] == event and part in (None, self.told[-1]["part"]):
                return self.told[-1]
        raise AssertionError(f"no {event}: {self.told}")

    def type(self, *command):
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=60
        )


@pytest.fixture
def root(houses, tmp_path):
    """A copy of the project; its model answers from Charkha's own store, wherever it lies."""
    root = tmp_path / "houses"
    shutil.copytree(houses.root, root, symlinks=True)
    with (root / "charkha.toml").open("a") as file:
        file.write("\n[serving]\ndrain_s = 0\n")
    return root


@pytest.fixture
def up(houses, root):
    begun = []

    def start(*options):
        begun.append(Up(houses, root, *options))
        return begun[-1]

    yield start
    for one in begun:
        one.process.send_signal(signal.SIGTERM)
        try:
            one.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.process.stdout.close()


def ask(address, root):
    row = (root / "houses.jsonl").read_bytes().splitlines()[0]
    with urlopen(Request(f"{address}/predict", row), timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def living(pids):
    """Return those of some processes, or of their groups, that are there and no zombies."""
    told = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True).stdout
    rows = [line.split() for line in told.splitlines()]
    return [int(p) for p, g, stat in rows if {int(p), int(g)} & set(pids) and stat[0] != "Z"]


FINDS = """
from charkha import open_project
from charkha.release.starting import open_platform
print([(arm.name, arm.version) for arm in open_platform(open_project()).holds()])
"""


def test_the_platform_is_found_comes_back_and_leaves_nothing_when_it_is_killed(up, root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        run = up("--port", str(port), "--no-ui", "--no-loop")
        assert run.until("moved", "server")["wanted"] == port
        addresses = run.until("all-ready")["addresses"]
    assert ask(addresses["server"], root)["id"]

    again = run.type(CHARKHA, "up")
    assert again.returncode == 1
    assert f"pid {run.process.pid}" in again.stderr
    assert addresses["server"] in again.stderr
    found = run.type(sys.executable, "-c", FINDS)  # with a token that only up knows
    assert found.stdout == "[('champion', 1)]\n", found.stderr

    first = next(e["pid"] for e in run.told if e["event"] == "starting")
    token = (root / ".charkha" / "up.token").read_text()
    args = run.type("ps", "-ww", "-eo", "args").stdout
    assert str(root) not in args or token not in args
    assert token not in args
    os.kill(first, signal.SIGKILL)
    assert run.until("died", "server")["code"] == -signal.SIGKILL
    second = run.until("starting", "server")["pid"]
    run.until("ready", "server")
    assert ask(addresses["server"], root)["id"]

    run.process.kill()
    run.process.wait()  # a shell does that: until then its pid is somebody's
    until = time.monotonic() + WAIT_S
    while (left := living([second])) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    found = run.type(sys.executable, "-c", FINDS)  # nor does its file mislead anybody
    assert "none is set" in found.stderr


def test_ctrl_c_ends_all_of_it_and_the_log_tells_the_whole_story(up, root):
    loop = ["loop"] if "loop" in COMMANDS else []
    run = up("--port", "0")
    addresses = run.until("all-ready")["addresses"]
    with urlopen(addresses["mlflow"], timeout=30) as page:  # noqa: S310
        assert b"MLflow" in page.read()
    pids = json.loads((root / ".charkha" / "up.json").read_text())["pids"]
    assert sorted(pids) == sorted(["server", *loop, "mlflow"])
    run.process.send_signal(signal.SIGINT)
    run.until("ended")
    assert run.process.wait(WAIT_S) == 0
    assert living(pids.values()) == []
    assert not list((root / ".charkha").glob("up.[jt]*"))
    stopped = [e["parts"] for e in run.told if e["event"] == "stopping"]
    assert [name for group in stopped for name in group] == [*loop, "server", "mlflow"]
    log = (root / ".charkha" / "logs" / "up.log").read_text()
    assert all(word in log for word in ("server  ready", "mlflow  ready", "all parts have ended"))


def test_without_a_champion_nothing_is_started(fresh):
    done = fresh.type("up")
    assert done.returncode == 1
    assert "house-prices has no champion yet" in done.stderr
    assert "→ charkha run" in done.stderr
    assert not (fresh.root / ".charkha" / "up.lock").exists()


def test_what_the_server_could_not_start_with_is_said_before_anything_is_started(houses, root):
    def said(text):
        (root / "charkha.toml").write_text(f'[model]\nname = "house-prices"\n{text}\n')
        done = subprocess.run(
            [CHARKHA, "up"], cwd=root, env=houses.environment, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "starting" not in done.stderr
        return done.stderr

    assert "did you mean 'port'" in said("[serving]\nprot = 1")
    assert "requires API keys" in said('[serving]\nauth = "required"')
    assert "no address of this machine" in said('[serving]\nhost = "192.0.2.1"\nauth = "off"')
    assert "the environment variable NO_SUCH is not set" in said(
        '[serving]\nadmin_token = "env:NO_SUCH"'
    )
    assert "steps" in said('[loop]\nsteps = "50,20"')
    logs = root / ".charkha" / "logs"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(logs)
    logs.write_text("a file")
    assert "cannot be written" in said("")
