"""Several workers in processes of their own, some of them killed: all come to hold the same."""

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from charkha.errors import CharkhaError, Refused
from charkha.serving.counts import counting
from charkha.serving.lead import Lead
from charkha.serving.wanted import Files, Wanted, read, read_asked

SCRIPT = Path(__file__).with_name("worker_process.py")


class Workers:
    def __init__(self, root, counts, count):
        self.root, self.counts = root, counts
        self.processes = [None] * count

    def start(self, number):
        self.processes[number] = subprocess.Popen(
            [sys.executable, SCRIPT, self.root, self.counts, str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self, number):
        process = self.processes[number]
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        process.stdout.close()


@contextmanager
def working(project, *asked, count=2, **how):
    lead = Lead(
        project,
        "prices",
        asked=[read_asked(text) for text in asked],
        workers=count,
        **{"every_s": 0.05, "load_s": 60.0, "swap_s": 60.0, **how},
    )
    with counting() as counts:
        workers = Workers(project.root, counts, count)
        lead.begin()
        try:
            for number in range(count):
                workers.start(number)
            for process in workers.processes:
                assert process.stdout.readline() == "ready\n"
            lead.start()
            yield lead, workers
        finally:
            lead.close()
            for number in range(count):
                workers.kill(number)


def held(lead):
    """Return what each worker holds: versions and shares by name."""
    return [
        {v["name"]: (v["version"], v["share"]) for v in worker.get("variants", ())}
        for worker in lead.status()["workers"]
    ]


def until(holds, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


def test_a_change_is_answered_once_every_worker_has_it(models):
    with working(models.project, "champion=90", "3=10") as (lead, _):
        for share in range(1, 4):
            lead.set_shares({"champion": share, "v3": 1})
            assert held(lead) == [{"champion": (2, share), "v3": (3, 1)}] * 2
        lead.add(read_asked("4=5"))
        assert [sorted(worker) for worker in held(lead)] == [["champion", "v3", "v4"]] * 2


def test_a_version_that_one_worker_cannot_load_is_held_by_none(models):
    models.broken(5, 5.0)
    with working(models.project, "champion=90") as (lead, _):
        with pytest.raises(Refused, match="answers its recorded examples otherwise"):
            lead.add(read_asked("5=10"))
        until(lambda: all(worker["done"] for worker in lead.status()["workers"]))
        assert held(lead) == [{"champion": (2, 90)}] * 2


def test_a_worker_that_is_killed_in_the_middle_of_a_change_comes_up_with_it(models):
    with working(models.project, "champion=90", "3=10") as (lead, workers):
        for moment in (0.0, 0.02, 0.1):
            failed = []

            def change(failed=failed):
                try:
                    lead.add(read_asked("4=5"))
                except CharkhaError as e:
                    failed.append(e)

            changing = threading.Thread(target=change)
            changing.start()
            time.sleep(moment)
            workers.kill(1)
            assert [w["alive"] for w in lead.status()["workers"]] == [True, False]
            workers.start(1)
            changing.join(60)
            assert failed == []
            assert sorted(held(lead)[0]) == ["champion", "v3", "v4"]
            assert held(lead)[0] == held(lead)[1]
            lead.drop("v4")


def test_a_lead_that_is_killed_at_any_moment_leaves_what_all_can_load(models, tmp_path):
    code = """
import sys
from pathlib import Path
from charkha.project import default_project
from charkha.serving.lead import Lead
from charkha.serving.wanted import read_asked
lead = Lead(default_project(Path(sys.argv[1])), "prices", workers=1, load_s=60, swap_s=60,
            asked=[read_asked("champion=90"), read_asked("3=10")])
lead.begin()
print("begun", flush=True)
n = 0
while True:
    n += 1
    lead.set_shares({"champion": n, "v3": n})
    lead.add(read_asked("4=5"))
    lead.drop("v4")
"""
    rng = random.Random(0)  # moments
    files = Files(models.project.state / "serving", "prices")
    last = 0
    with counting() as counts:
        for _ in range(6):
            lead = subprocess.Popen(
                [sys.executable, "-c", code, models.project.root],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert lead.stdout.readline() == "begun\n"
            workers = Workers(models.project.root, counts, 1)
            workers.start(0)
            assert workers.processes[0].stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.1, 0.8))
            lead.kill()
            lead.wait(20)
            lead.stdout.close()
            workers.kill(0)
            wanted = read(files.wanted, Wanted)
            assert wanted.generation > last
            last = wanted.generation
            champion, third, *more = wanted.variants
            assert (champion.version, third.version) == (2, 3)
            assert [v.version for v in more] in ([], [4])
            assert champion.share == third.share or (champion.share, third.share) == (90, 10)
    with working(models.project, "champion=90", "3=10", count=1) as (lead, _):
        assert held(lead)[0]["champion"][0] == 2
        lead.set_shares({v["name"]: 1 for v in lead.status()["variants"]})
