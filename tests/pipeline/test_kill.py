"""`kill -9` at random moments: the next run finishes with the same digests, none stays «running»."""

import os
import random
import subprocess
import sys
import time

import pytest

from charkha.pipeline.runs import list_runs, read_run
from charkha.project import open_project

PIPELINE = """
import time
from charkha import step, pipeline

@step
def start(n: int) -> list:
    return list(range(n))

@step
def grow(xs: list, by: int) -> bytes:
    time.sleep(0.005)
    return bytes(xs[:100]) * 40_000 * by  # 4 MB: there is a middle of writing it

@step
def measure(data: bytes, by: int) -> list:
    return [len(data), by]

@step
def total(xs: list) -> int:
    return sum(x for pair in xs for x in pair)

@pipeline
def main(n: int = 200):
    xs = start(n)
    total([measure(grow(xs, i), i) for i in range(1, 6)])
"""
DRIVER = """
import sys
from charkha.pipeline.run import run
run(workers=int(sys.argv[1]))
"""


def launch(root, workers):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(workers)], cwd=root, stderr=subprocess.PIPE
    )


def finish(process):
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()


def digests(root):
    run = read_run("last", open_project(root))
    assert run.status == "finished"
    return {name: step.outputs["result"].digest for name, step in run.steps.items()}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "killed"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


@pytest.mark.parametrize(("workers", "kills"), [(1, 40), (2, 10)])
def test_a_run_that_is_killed_is_finished_by_the_next_one(project, workers, kills):
    began = time.monotonic()
    finish(launch(project, workers))
    longest = time.monotonic() - began
    right = digests(project)
    chance = random.Random(workers)  # it has to be repeatable
    for _ in range(kills):
        for folder in ("blobs", "last", "locks"):
            subprocess.run(["rm", "-rf", project / ".charkha" / folder], check=True)
        victim = launch(project, workers)
        time.sleep(chance.uniform(0.2, 1.0) * longest)
        victim.kill()
        victim.communicate()
        finish(launch(project, workers))
        assert digests(project) == right
    runs = list_runs(open_project(project))
    assert not [run.id for run in runs if run.status == "running"]
    crashed = [run for run in runs if run.status == "crashed"]
    assert len(crashed) >= kills // 4, "the moments were badly chosen: hardly a run was hit"


def test_a_run_that_lives_is_shown_as_running_and_one_that_was_killed_as_crashed(project):
    (project / "pipeline.py").write_text(PIPELINE.replace("0.005", "30"))
    victim = launch(project, 1)
    opened = open_project(project)
    while (  # a run's journal is there a moment before its first line
        not (runs := list_runs(opened))
        or "grow" not in runs[0].steps
        or runs[0].steps["grow"].how != "running"
    ):
        time.sleep(0.01)
    assert runs[0].status == "running"
    victim.kill()
    victim.communicate()
    told = read_run("last", opened)
    assert told.status == "crashed"
    assert told.steps["start"].how == "ran"
    assert told.steps["grow"].how == "crashed"


def test_workers_end_with_the_run_that_was_killed(project):
    (project / "pipeline.py").write_text(
        PIPELINE.replace(
            "time.sleep(0.005)",
            "print('pid', __import__('os').getpid(), flush=True); time.sleep(30)",
        )  # fmt: skip
    )
    victim = launch(project, 2)
    workers = []
    while len(workers) < 2:
        line = victim.stderr.readline().decode().split()
        workers += [int(line[1])] if line[:1] == ["pid"] else []
    victim.kill()
    victim.communicate()
    for _ in range(500):
        if not any(alive(pid) for pid in workers):
            return
        time.sleep(0.01)
    raise AssertionError(f"still there: {[pid for pid in workers if alive(pid)]}")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_runs_at_once_compute_each_step_once(project):
    (project / "pipeline.py").write_text(PIPELINE.replace("0.005", "0.2"))
    together = [launch(project, 1) for _ in range(2)]
    for process in together:
        finish(process)
    runs = list_runs(open_project(project))
    assert [run.status for run in runs] == ["finished", "finished"]
    for name in runs[0].steps:
        hows = sorted(run.steps[name].how for run in runs)
        assert hows in (["ran", "reused"], ["ran", "shared"]), f"{name}: {hows}"
