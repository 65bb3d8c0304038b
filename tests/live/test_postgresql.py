"""The first turn, serving, a release and a look at drift, with PostgreSQL below MLflow and as ledger."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest

pytestmark = pytest.mark.timeout(600)  # a project, two runs and a release, on busy cores
CHARKHA = Path(sys.executable).with_name("charkha")
SETTINGS = """
[tracking]
uri = "env:TRACKING"
[ledger]
url = "env:LEDGER"
[serving]
port = {port}
admin_port = {admin_port}
admin_token = "env:ADMIN_TOKEN"
follow_s = 0.1
drain_s = 0
[release]
every_s = 0.2
step_s = 0
watch_s = 0.5
requests = 30
labels = 30
error_margin = 0.2
latency_margin = 20.0
required = ["errors"]
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Houses:
    """The house-prices project, used through the command line."""

    def __init__(self, folder, **variables):
        self.root = folder / "houses"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CHARKHA_", "MLFLOW_"))},
            "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
            "ADMIN_TOKEN": "for this test",
            **variables,
        }
        self._type("init", "houses", "--template", "house-prices", cwd=folder)
        with (self.root / "charkha.toml").open("a") as file:
            file.write(SETTINGS.format(port=free_port(), admin_port=free_port()))

    def _type(self, *words, cwd=None):
        done = subprocess.run(
            [CHARKHA, *words],
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words):
        """Type a command that has to work with --json; return what it said."""
        return json.loads(self._type(*words, "--json"))

    def begin(self, *words, **how):
        return subprocess.Popen(
            [CHARKHA, *words], cwd=self.root, env=self.environment, text=True, **how
        )


@pytest.fixture(scope="module")
def houses(tmp_path_factory, postgresql):
    made = Houses(
        tmp_path_factory.mktemp("turn"),
        TRACKING=postgresql.make_database(),
        LEDGER=postgresql.make_database(),
    )
    made.first = made.json("run")
    made.second = made.json("run", "--param", "trees=120")
    return made


@pytest.fixture(scope="module")
def first_turn(houses):
    """Return what a run said before anything was predicted live: later ones learn from that."""
    return houses.json("run", "--param", "trees=120")


def test_the_first_turn_ends_in_a_champion_and_nothing_lies_in_sqlite(houses, first_turn):
    (version,) = houses.first["mlflow"]["versions"]
    assert (version["version"], version["alias"]) == (1, "champion")
    assert "not-a-secret" not in json.dumps([houses.first, houses.json("doctor")])
    assert {step["how"] for step in first_turn["steps"]} == {"reused"}
    assert len(houses.json("predict", "house-prices", "houses.jsonl")["predictions"]) == 3
    with psycopg.connect(houses.environment["LEDGER"]) as ledger:
        (gates,) = ledger.execute("SELECT count(*) FROM decisions WHERE kind = 'gate'").fetchone()
        assert gates >= 2
    assert not list((houses.root / ".charkha").glob("*.db"))


class Callers(threading.Thread):
    """Ask for the price of the same houses, and tell afterwards what was paid."""

    def __init__(self, url, rows):
        super().__init__()
        self.ended, self.statuses = threading.Event(), set()
        self._url, self._rows = url, rows

    def run(self):
        with httpx.Client(base_url=self._url) as http:
            while not self.ended.is_set():
                for row in self._rows:
                    answer = http.post("/predict", json=row)
                    self.statuses.add(answer.status_code)
                    told = answer.json()
                    truth = {"id": told["id"], "ground_truth": told["prediction"] + 1000}
                    self.statuses.add(http.post("/feedback", json=truth).status_code)
                time.sleep(0.05)  # enough for a release, and cores for the others


@pytest.fixture
def served(houses, first_turn):
    """Return the address of a server under requests, whose champion is version 1."""
    server = houses.begin("serve", "--json", stdout=subprocess.PIPE)
    try:
        told = json.loads(server.stdout.readline())
        rows = [json.loads(row) for row in (houses.root / "houses.jsonl").read_text().splitlines()]
        callers = Callers(told["url"], rows)
        callers.start()
        yield told
        callers.ended.set()
        callers.join()
        assert callers.statuses <= {200, 202}
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_a_release_whose_controller_is_killed_ends_and_is_looked_at_for_drift(houses, served):
    command = ("release", "start", "house-prices@2", "--steps", "50,100")
    killed = houses.begin(*command, stdout=subprocess.DEVNULL)
    with psycopg.connect(houses.environment["LEDGER"], autocommit=True) as ledger:
        query = "SELECT count(*) FROM decisions WHERE kind = 'release'"
        while ledger.execute(query).fetchone() == (0,):
            assert killed.poll() is None
            time.sleep(0.05)
    killed.kill()
    killed.wait()
    again = houses.json("release", "run")
    assert again["state"]["phase"] == "promoted"
    story = [d["numbers"]["phase"] for d in houses.json("release", "history")]
    assert story == ["judging", "watching", "promoted"]
    with psycopg.connect(houses.environment["LEDGER"]) as ledger:
        kept = ledger.execute("SELECT key, revision FROM states WHERE kind = 'release'").fetchall()
        assert [key for key, _ in kept] == ["house-prices"]
        assert ledger.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    champions = [v for v in houses.json("models", "list") if "champion" in v["aliases"]]
    assert [v["version"] for v in champions] == [2]

    looked = houses.json("monitor", "check", "house-prices")
    assert looked
    with psycopg.connect(houses.environment["LEDGER"]) as ledger:
        told = ledger.execute("SELECT because FROM decisions WHERE kind = 'drift'").fetchall()
        assert told

    turned = houses.begin("loop", "--now", "--json", stdout=subprocess.PIPE)
    lines = [json.loads(line) for line in turned.communicate(timeout=240)[0].splitlines()]
    turn = next(line["turn"] for line in reversed(lines) if line["turn"])
    if turn["phase"] == "releasing":  # what the gate passed is ended here, to be short
        houses.json("release", "abort", "--because", "the test is over")
        houses.begin("loop", stdout=subprocess.DEVNULL).wait(240)
    with psycopg.connect(houses.environment["LEDGER"]) as ledger:
        query = "SELECT numbers FROM decisions WHERE kind = 'loop' ORDER BY at"
        told = [json.loads(numbers) for (numbers,) in ledger.execute(query).fetchall()]
    assert {each["turn"] for each in told} == {turn["id"]}
    assert told[-1]["outcome"] in ("refused", "rolled back")
    assert told[-1]["outcome"] in json.dumps(houses.json("why", turn["id"]))
