"""From an answer back to the data: every fact that `charkha why` tells is what other commands say."""

import json
import socket
import subprocess
import time
from urllib.request import Request, urlopen

import pytest

from .conftest import CHARKHA

SETTINGS = """
[serving]
port = {port}
admin_port = {admin}
admin_token = "env:ADMIN_TOKEN"
follow_s = 1
drain_s = 0

[release]
every_s = 0.3
requests = 1000

[monitoring]
least_rows = 10
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Service:
    """A server of a project with two versions, of which the second is being released."""

    def __init__(self, houses):
        self.houses = houses
        self.port, admin = free_port(), free_port()
        self.rows = (houses.root / "houses.jsonl").read_text().splitlines()
        houses.environment["ADMIN_TOKEN"] = "a-token-that-is-long-enough"  # noqa: S105
        with (houses.root / "charkha.toml").open("a") as file:
            file.write(SETTINGS.format(port=self.port, admin=admin))
        self.started = []

    def start(self, *words):
        process = subprocess.Popen(
            [CHARKHA, *words],
            cwd=self.houses.root,
            env=self.houses.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.started.append(process)
        return process

    def wait(self, until, seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if until():
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError("it did not come about")

    def ask(self, path, body, **headers):
        address = f"http://127.0.0.1:{self.port}{path}"
        request = Request(address, body.encode() if body else None, headers)
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def predict(self, row=0, **headers):
        return self.ask("/predict", self.rows[row % len(self.rows)], **headers)

    def end(self):
        for process in reversed(self.started):
            process.terminate()
            process.wait(30)


@pytest.fixture
def service(turned, tmp_path):
    made = Service(turned(2, tmp_path))
    try:
        made.start("serve", "house-prices")
        made.wait(lambda: made.ask("/readyz", ""))
        yield made
    finally:
        made.end()


def value(story, name):
    return next(fact["value"] for fact in story["facts"] if fact["name"] == name)


def part(story, kind):
    return next(each for each in story["parts"] if each["kind"] == kind)


@pytest.mark.timeout(600)
def test_a_prediction_is_followed_back_to_its_data_and_on_to_its_end(service):
    houses = service.houses
    alone = service.predict()
    service.start("release", "start", "house-prices@2", "--steps", "40,100")
    service.wait(lambda: any(service.predict(n)["version"] == 2 for n in range(20)))
    # Which arm answers is chance: of so many, fewer than 10 come from the new version once in 10^8.
    answers = [service.predict(n) for n in range(80)]
    new = next(a for a in answers if a["version"] == 2)
    service.ask("/feedback", json.dumps({"id": new["id"], "ground_truth": 150_000}))
    houses.json("monitor", "check", "house-prices@2")
    houses.json("release", "abort", "--because", "it was a journey")

    told = houses.json("why", new["id"])
    _the_record_is_that_of_records(houses, told, new)
    _the_arm_is_the_releases(told, alone, houses)
    _gate_run_and_data_are_those_of_the_version(houses, told)
    _drift_and_release_are_those_of_the_ledger(houses, told)
    _each_id_leads_on(houses, told)
    text = houses.type("why", new["id"]).stdout
    assert new["id"] not in text.partition("go on with")[0]  # who asks has it
    assert len(text.splitlines()) < 60
    slip = houses.type("why", f"{new['id'][:-2]}zz")
    assert slip.returncode == 1
    assert "nothing here is called" in slip.stderr


def _the_record_is_that_of_records(houses, told, answer):
    record = houses.json("records", "--id", answer["id"])
    assert value(told, "answer") == record["prediction"] == answer["prediction"]
    assert value(told, "asked") == record["time"]
    assert value(told, "latency_s") == record["latency_s"]
    inputs = {f["name"]: f["value"]["value"] for f in part(told, "inputs")["facts"]}
    assert inputs == {n.removeprefix("input."): v for n, v in record.items() if "input." in n}
    truth = part(told, "truth")
    assert value(truth, "ground_truth") == record["ground_truth"] == 150_000
    assert value(truth, "ground_truth_time") == record["ground_truth_time"]
    assert value(truth, "error") == pytest.approx(record["prediction"] - 150_000)


def _the_arm_is_the_releases(told, alone, houses):
    arm = part(told, "arm")
    assert value(arm, "variant") == "release-2"
    assert value(arm, "share") == pytest.approx(0.4)
    assert value(arm, "drawn") == "release-2"  # no key was sent
    before = part(houses.json("why", alone["id"]), "arm")
    assert value(before, "variant") == "champion"


def _gate_run_and_data_are_those_of_the_version(houses, told):
    version = houses.json("models", "show", "house-prices@2")["version"]
    gate, run = part(told, "gate"), part(told, "run")
    assert "; ".join(gate["because"]) == version["tags"]["charkha.because"]
    assert value(gate, "passed") is True
    assert value(gate, "against") == "house-prices@1"
    assert run["id"] == version["tags"]["charkha.run"] == houses.second["run"]
    listed = houses.json("runs", run["id"])
    assert value(run, "commit") == listed["commit"] == version["tags"]["charkha.commit"]
    assert value(run, "params") == listed["params"]
    assert [(s["name"], s["how"]) for s in value(run, "steps")] == [
        (s["name"], s["how"]) for s in listed["steps"]
    ]
    digests = [list(s["outputs"].values()) for s in value(run, "steps")]
    assert digests == [[o["digest"] for o in s["outputs"].values()] for s in listed["steps"]]
    (data,) = value(part(told, "version"), "data")
    assert version["tags"]["charkha.data"].replace("=md5:", "@").startswith(data)


def _drift_and_release_are_those_of_the_ledger(houses, told):
    release, drift = part(told, "release"), part(told, "drift")
    history = houses.json("release", "history")
    assert {d["numbers"]["release"] for d in history} == {release["id"]}
    assert value(release, "phase") == "judging"
    assert value(release, "ended as") == history[-1]["numbers"]["phase"] == "aborted"
    assert any("it was a journey" in text for text in release["because"])
    later = part(told, "afterwards")
    assert "it was a journey" in [text for e in later["parts"] for text in e["because"]]
    assert value(drift, "outcome") in ("drift", "no drift")


def _each_id_leads_on(houses, told):
    kinds = {}
    for each in told["next"]:
        story = houses.json("why", each["reference"])
        kinds[story["kind"]] = story
    assert {"version", "run", "release", "decision"} <= set(kinds)
    assert kinds["release"]["id"] == part(told, "release")["id"]
    steps = [p["title"].partition(":")[0] for p in kinds["run"]["parts"] if p["kind"] == "step"]
    assert steps == [s["name"] for s in houses.second["steps"]]
