"""The wheel turned by itself: train, serve, a wish, a release with traffic, and the loop killed."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from .conftest import CHARKHA

SETTINGS = """
[serving]
port = {port}
admin_port = {admin}
admin_token = "file:token"
follow_s = 0.1
[release]
every_s = 0.2
step_s = 0
watch_s = 0.2
requests = 20
labels = 20
error_margin = 0.5
latency_margin = 50.0
required = ["errors"]
loss_margin = 5.0
prediction_margin = 1.0
[loop]
steps = "50,100"
every_s = 0.2
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Callers(threading.Thread):
    """Ask for prices, and tell at once what was paid."""

    def __init__(self, url, rows):
        super().__init__()
        self.ended, self._url, self._rows = threading.Event(), url, rows
        self.codes, self._truths = set(), 0

    def run(self):
        chance = random.Random(1)
        with httpx.Client(base_url=self._url, timeout=30) as http:
            while not self.ended.is_set():
                answer = http.post("/predict", json=chance.choice(self._rows))
                self.codes.add(answer.status_code)
                told = answer.json()
                if self._truths < 100:  # with 200 the template would judge by them
                    self._truths += 1
                    truth = {
                        "id": told["id"],
                        "ground_truth": 150_000 * chance.lognormvariate(0, 1),
                    }
                    self.codes.add(http.post("/feedback", json=truth).status_code)
                time.sleep(0.01)


@pytest.fixture
def served(turned, tmp_path):
    """A project whose champion is served, with callers; the pipeline has changed since."""
    fresh = turned(1, tmp_path)
    port = free_port()
    (fresh.root / "token").write_text("of this test")
    file = fresh.root / "charkha.toml"
    settings = SETTINGS.format(port=port, admin=free_port())
    file.write_text(file.read_text().replace("trees = 100", "trees = 110") + settings)
    server = subprocess.Popen(
        [CHARKHA, "serve", "house-prices", "--json"],
        cwd=fresh.root,
        env=fresh.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    url = json.loads(server.stdout.readline())["url"]
    rows = [json.loads(line) for line in (fresh.root / "houses.jsonl").read_text().splitlines()]
    callers = Callers(url, rows)
    callers.start()
    yield fresh
    callers.ended.set()
    callers.join()
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    assert callers.codes <= {200, 202, 204}


def loop(houses, *words):
    return subprocess.Popen(
        [CHARKHA, "loop", *words, "--json"],
        cwd=houses.root,
        env=houses.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(process, word):
    """Read what a loop says until a word is in it; it is killed where another end comes."""
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return
        if '"ended"' in line:
            process.kill()
    raise AssertionError(f"the loop did not say {word!r}: {said}")


@pytest.mark.timeout(400)
def test_a_wish_becomes_a_champion_though_the_loop_is_killed_in_training_and_in_the_release(served):
    first = loop(served, "--daemon", "--now", "--because", "a new law")
    until(first, "training:")
    time.sleep(0.5)
    os.kill(first.pid, signal.SIGKILL)  # the run that it has started goes on
    first.communicate()
    second = loop(served, "--daemon")
    until(second, "releasing:")
    os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    third = loop(served, "--daemon")
    until(third, "promoted:")
    third.send_signal(signal.SIGINT)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0, said
    assert "what it has begun goes on with the next one" in said

    kept = served.json("loop", "--status")
    turn = kept["turn"]
    assert (turn["trigger"], turn["phase"], turn["outcome"]) == ("person", "ended", "promoted")
    assert len(kept["begun"]) == 1
    champions = [v for v in served.json("models", "list") if "champion" in v["aliases"]]
    assert [v["version"] for v in champions] == [turn["version"]]
    shown = served.type("loop", "--status").stdout
    assert f"turn {turn['id']}, begun by person" in shown
    history = served.json("release", "history")
    begun = {d["numbers"]["release"] for d in history}
    assert len(begun) == 1


@pytest.fixture(scope="module")
def idle(houses, tmp_path_factory):
    """A copy of the project whose first run is done; nothing serves it."""
    root = tmp_path_factory.mktemp("idle") / "houses"
    shutil.copytree(houses.root, root, symlinks=True)
    return type(houses)(root, root.parent / "dvc")


@pytest.fixture
def says(idle):
    """Return `says(settings, …)`: what `charkha loop` says under these settings."""
    file = idle.root / "charkha.toml"
    before = file.read_text()

    def says(settings, *words, code):
        file.write_text(f"{before}\n{settings}")
        done = idle.type("loop", *words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    yield says
    file.write_text(before)


ADMIN = "[serving]\nadmin_port = {}\n"


def test_what_is_wrong_is_said_before_anything_is_begun(says):
    assert "none is set\n  → charkha up, which has one; or [serving] admin_port" in says(
        "", "--now", code=1
    )
    cron = '[loop]\nstrategy = "none"\n[[trigger]]\non = "schedule"\ncron = "0 25 * * *"\n'
    assert "'0 25 * * *' is no schedule" in says(cron, code=1)
    window = '[loop]\nstrategy = "none"\nwindow = "90x"\n'
    assert "'90x' is no window" in says(window, code=1)
    assert "none is set\n  → [serving] admin_token" in says(ADMIN.format(free_port()), code=1)
    steps = ADMIN.format(free_port()) + 'admin_token = "env:HOME"\n[loop]\nsteps = "50,20"\n'
    told = says(steps, code=1)
    assert "charkha.toml, [loop]: the steps 50, 20 do not rise to 100" in told
    assert '→ steps = "1,5,25,50,100"' in told
    none = '[loop]\nstrategy = "none"\n'
    assert "did you mean 'house-prices'?" in says(none, "house-price", "--now", code=1)
    told = says(none, "--status", code=0)  # another test may have had a loop look
    assert "no loop has looked at house-prices yet" in told or "unchanged: run" in told
    for every in ("0", "nan", "inf", "1e300"):
        assert "is no time such as" in says(none, "--daemon", "--every", every, code=2)


def test_a_wish_for_what_is_champion_already_changes_nothing(says):
    assert "unchanged: run" in says('[loop]\nstrategy = "none"\n', "--now", code=0)
