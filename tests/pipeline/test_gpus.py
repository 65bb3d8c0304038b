"""GPUs: who gets which, who waits, what is refused, and that no two runs have the same one.

This needs no GPU: names of devices are handed out, locked and given back whether or not there is
anything behind them.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from charkha.errors import ProjectError, UserError
from charkha.events import Noticed
from charkha.pipeline.devices import (
    WHOLE,
    Card,
    Device,
    all_of,
    amount,
    named,
    problem,
    turns,
    visible,
)
from charkha.pipeline.engines import nvidia_smi
from charkha.pipeline.engines.gpus import Gpus
from charkha.pipeline.journal import is_locked
from charkha.pipeline.runs import read_run
from charkha.project import PipelineSettings, open_project

HEAD = """
import os, time
from pathlib import Path
from charkha import step, pipeline

HERE = Path(__file__).parent

def seen():
    return os.environ.get("CUDA_VISIBLE_DEVICES")

def meet(name, count):
    marks = HERE / ".charkha"  # whose files are nobody's inputs
    (marks / f"here-{name}").touch()
    until = time.monotonic() + 30
    while len(list(marks.glob("here-*"))) < count:
        assert time.monotonic() < until, "nobody else came"
        time.sleep(0.01)
"""
DRIVER = "from charkha.pipeline.run import run; print(*run().notices, sep='; ')"
GPU = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.fixture(autouse=True)
def _no_gpus_of_this_machine(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


def write(workshop, text, *devices, more=""):
    gpus = f"gpus = {[*devices]}\n" if devices else ""
    toml = f'[project]\nname = "w"\n[pipeline]\ngpu_locks = "locks"\n{gpus}{more}'
    workshop.write("charkha.toml", toml)
    workshop.write("pipeline.py", HEAD + text)


# What is decided.


def test_a_part_goes_where_least_is_left_over_so_that_whole_devices_stay_free():
    assert turns([300], {"a": 1000, "b": 700, "c": 400}) == [("c",)]
    assert turns([500, 500, 1000], {"a": 1000, "b": 1000}) == [("a",), ("a",), ("b",)]


def test_a_part_is_never_put_together_from_two_devices():
    assert turns([600], {"a": 500, "b": 500}) == [None]
    assert turns([1000], {"a": 999, "b": 1}) == [None]


def test_tenths_and_thirds_fill_a_device():
    for parts in (3, 6, 7, 10):
        assert turns([amount(1 / parts)] * parts, {"a": WHOLE}).count(None) == 0
    assert turns([amount(0.1)] * 11, {"a": WHOLE}).count(None) == 1


def test_who_waits_first_keeps_the_nearest_devices_and_lets_others_have_the_rest():
    free = {"a": 900, "b": 0, "c": 600}
    assert turns([2000, 500, 1000], free) == [None, None, None]
    assert turns([2000, 500], {**free, "d": 500}) == [None, ("d",)]
    assert turns([4000, 500], free) == [None, ("c",)]  # too many for now: it keeps none


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_given_twice_and_everybody_has_a_turn(seed):
    chance = random.Random(seed)
    names = "abcd"[: chance.randint(1, 4)]
    waiting = {f"first-{i}": chance.choice([1000 * len(names), 500]) for i in range(4)}
    running, late = {}, 0
    while any(name.startswith("first") for name in [*waiting, *running]):
        late += 1
        assert late < 2_000, "somebody was overtaken for ever"
        waiting[f"late-{late}"] = chance.choice([100, 333, 500, 700, 1000])
        free = dict.fromkeys(names, WHOLE)
        for wanted, devices in running.values():
            for device in devices:
                free[device] -= min(wanted, WHOLE)
        assert min(free.values()) >= 0
        given = turns(list(waiting.values()), free)
        for name, devices in zip(list(waiting), given, strict=True):
            if devices is not None:
                running[name] = waiting.pop(name), devices
                assert len(set(devices)) == max(1, running[name][0] // WHOLE)
        for name in chance.sample(sorted(running), k=min(len(running), chance.randint(0, 2))):
            del running[name]


@pytest.mark.parametrize("gpu", [1.5, -1, float("nan"), float("inf"), -0.5])
def test_neither_a_part_of_one_nor_whole_ones_is_no_amount(gpu):
    assert f"gpu={gpu:g}" in problem(gpu)
    assert not [fine for fine in (None, 0, 0.25, 1, 1.0, 8) if problem(fine)]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("0,2", ["0", "2"]),
        (" 3 , 1 ", ["3", "1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,0", ["1"]),
        ("0,0", ["0"]),
        ("GPU-8932f937,MIG-1a2b", ["GPU-8932f937", "MIG-1a2b"]),
    ],
)
def test_the_drivers_variable_is_read_as_the_driver_reads_it(text, entries):
    assert visible(text) == entries


def test_a_device_has_one_name_for_all_runs_where_that_can_be_told():
    alike = [Card(index=i, model="H100", uuid=f"GPU-{i}a{i}b") for i in range(2)]
    mixed = [alike[0], Card(index=1, model="T4", uuid="GPU-1a1b")]
    given = ["1", "GPU-0a"]
    ours = [Device(id="1", lock="GPU-1a1b"), Device(id="GPU-0a", lock="GPU-0a0b")]
    assert named(given, alike, by_bus=False) == named(given, mixed, by_bus=True) == ours
    assert named(["1"], mixed, by_bus=False) == [Device(id="1", lock="1")]
    assert named(["1"], [], by_bus=False) == [Device(id="1", lock="1")]
    assert [d.id for d in named(["GPU-0a", "0", "1"], alike, by_bus=False)] == ["GPU-0a", "1"]


# What the machine says.

LISTING = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {GPU})
  MIG 3g.20gb     Device  0: (UUID: MIG-3b0f1c2e-70e0-5a5b-b0a5-0c2f6d6f8a01)
  MIG 3g.20gb     Device  1: (UUID: MIG-3b0f1c2e-70e0-5a5b-b0a5-0c2f6d6f8a02)
GPU 1: Tesla T4 (UUID: GPU-11111111-d72c-4106-c12f-20bd9faed9f6)
"""


def fake(tmp_path, monkeypatch, script):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


def test_cards_and_the_parts_of_divided_ones_are_read_from_the_drivers_list(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, f'[ "$1" = -L ] && cat <<END\n{LISTING}END')
    cards, reason = nvidia_smi.look()
    assert reason is None
    assert [(card.index, card.model, len(card.parts)) for card in cards] == [
        (0, "NVIDIA A100-SXM4-40GB", 2),
        (1, "Tesla T4", 0),
    ]
    assert [device.id[:5] for device in all_of(cards)] == ["MIG-3", "MIG-3", "GPU-1"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Failed to initialize NVML'; exit 9", "ended with 9: Failed to initialize NVML"),
        ("exec sleep 60", "did not answer in 0.2 s"),
        ("echo 'No devices found.'", "nvidia-smi lists none"),
    ],
)
def test_a_driver_that_fails_or_hangs_means_none_with_the_reason(
    tmp_path, monkeypatch, script, reason
):
    fake(tmp_path, monkeypatch, script)
    cards, because = nvidia_smi.look(patience_s=0.2 if "sleep" in script else 15)
    assert cards == []
    assert reason in because


def test_what_the_one_who_starts_the_run_may_see_comes_before_what_the_project_names(monkeypatch):
    settings = PipelineSettings(gpus=("5", "6", "7"))
    assert Gpus(settings)._lock_of == {"5": "5", "6": "6", "7": "7"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{GPU},1")
    assert list(Gpus(settings)._lock_of) == [GPU, "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ProjectError, match='has none: CUDA_VISIBLE_DEVICES is ""'):
        Gpus(settings).check({"fit": 1})


# What runs do.

MEET = """
@step
def numbers() -> list:
    return [1, 2, 3]

@step(gpu=1)
def fit(n: int) -> str:
    meet(n, 2)
    print("fits")
    return seen() + " " + os.environ["CHARKHA_GPU_SHARE"]

@step
def plain(xs: list) -> object:
    return seen()

@pipeline
def main():
    plain(fit.each(n=numbers())())
"""


def test_steps_at_the_same_time_have_devices_of_their_own_and_the_others_wait_their_turn(workshop):
    write(workshop, MEET, "a", "b")
    told = []
    run = workshop.run(workers=4, listeners=[told.append])
    fits = [run.output(f"fit[{i}]") for i in range(3)]
    assert sorted(fits[:2]) == ["a 1", "b 1"]
    assert set(fits) == {"a 1", "b 1"}
    assert run.output("plain") is None, "it asked for none: it sees what whoever runs it sees"
    waits = [e for e in told if isinstance(e, Noticed) and e.text.startswith("waits")]
    assert waits == [Noticed("waits for a GPU: this run uses 2 of 2", "fit")]
    assert (workshop.root / ".charkha/runs" / run.id / "logs/fit[0].log").read_text() == "fits\n"
    write(workshop, MEET, "c")  # another device gives no other result
    assert {step.how for step in workshop.run(workers=2).steps.values()} == {"reused"}


def test_parts_share_a_device_and_whole_ones_do_not(workshop):
    text = MEET.replace("gpu=1", "gpu=0.5")
    write(workshop, text, "a", "b")
    run = workshop.run(workers=2)
    assert {run.output(f"fit[{i}]") for i in range(3)} == {"a 0.5"}


def test_a_step_with_one_worker_sees_its_devices_and_the_process_of_the_run_keeps_its_own(
    workshop, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    write(workshop, MEET.replace("meet(n, 2)", "pass").replace("gpu=1", "gpu=2"))
    run = workshop.run()
    assert run.output("fit[2]") == "4,5 2"
    assert run.output("plain") == "4,5,6"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6"


ONE = """
@step
def before() -> int:
    return 1

@step(gpu=2)
def fit(n: int) -> int:
    return n

@pipeline
def main():
    fit(before())
"""


def test_more_than_there_is_is_refused_before_anything_runs(workshop, monkeypatch):
    write(workshop, ONE, "a")
    with pytest.raises(ProjectError, match=r"'fit': asks for gpu=2, and .* \[pipeline\] gpus: a"):
        workshop.run()
    monkeypatch.setenv("PATH", str(workshop.root))
    write(workshop, ONE)
    with pytest.raises(ProjectError, match="has none: there is no nvidia-smi") as refused:
        workshop.run()
    assert "--on" in refused.value.fix
    run = read_run("last", open_project(workshop.root))
    assert (run.status, run.steps["before"].how) == ("failed", "waiting")


def test_what_is_cached_needs_no_device_and_without_a_wish_nobody_looks(workshop, monkeypatch):
    monkeypatch.setenv("PATH", str(workshop.root))
    write(workshop, ONE, "a", "b")
    assert workshop.ran() == ["before", "fit"]
    write(workshop, ONE)
    assert workshop.ran() == []
    workshop.write("nvidia-smi", "#!/bin/sh\nexec sleep 60\n").chmod(0o755)
    write(workshop, ONE.replace("@step(gpu=2)", "@step"))
    assert workshop.ran(workers=1) == []


def test_a_project_can_have_them_run_without(workshop):
    write(workshop, MEET.replace("meet(n, 2)", "pass"), more="gpus = []\n")
    workshop.edit("pipeline.py", "seen() + ", "str(seen()) + ")
    workshop.edit("pipeline.py", '["CHARKHA_GPU_SHARE"]', '.get("CHARKHA_GPU_SHARE", "-")')
    assert workshop.run().output("fit[0]") == "None -"


@pytest.mark.parametrize(
    "ends", ["os.kill(os.getpid(), 9)", "time.sleep(60)", "raise ValueError", "os._exit(0)"]
)
def test_a_device_comes_back_however_a_step_ends(workshop, ends):
    write(
        workshop,
        f"""
@step(gpu=1, retries=1, timeout_s=5 if "sleep" not in {ends!r} else 1.5)
def fit() -> str:
    if not (HERE / "tried").exists():
        (HERE / "tried").touch()
        {ends}
    return seen()

@pipeline
def main():
    fit()
""",
        "a",
    )
    run = workshop.run()
    assert (run.output("fit"), run.steps["fit"].attempts) == ("a", 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('gpus = ["0", "0"]', "stands there twice"),
        ('gpus = ["0,1"]', "each device is a text of its own"),
        ("gpus = 2", "gpus is a list of texts"),
    ],
)
def test_devices_that_are_written_wrong_are_refused_with_the_line(workshop, line, message):
    write(workshop, ONE, more=f"{line}\n")
    with pytest.raises(ProjectError, match=message) as refused:
        open_project(workshop.root)
    assert refused.value.where == "charkha.toml:5"


def test_a_wrong_amount_is_refused_with_the_step(workshop):
    write(workshop, ONE.replace("gpu=2", "gpu=1.5"), "a", "b")
    with pytest.raises(ProjectError, match=r"step 'fit': asks for gpu=1\.5"):
        workshop.run()


def test_locks_that_cannot_be_made_are_the_users_to_mend(workshop):
    write(workshop, ONE, "a", "b")
    workshop.write("locks", "no folder")
    with pytest.raises(UserError, match="GPUs cannot be kept apart") as refused:
        workshop.run()
    assert "gpu_locks" in refused.value.fix


# What runs do beside each other.

ALONE = """
@step(gpu=0.5)
def fit(n: int) -> int:
    os.close(os.open(HERE.parent / seen(), os.O_CREAT | os.O_EXCL))  # fails where somebody is there
    time.sleep(0.1)
    (HERE.parent / seen()).unlink()
    with (HERE.parent / "made").open("a") as made:
        made.write("x")
    return n

@pipeline
def main():
    fit.each(n=[1, 2])()
"""


def launch(root, text):
    root.mkdir(exist_ok=True)
    toml = f'[project]\nname = "{root.name}"\n[pipeline]\ngpus = ["a"]\ngpu_locks = "../locks"\n'
    (root / "charkha.toml").write_text(toml)
    (root / "pipeline.py").write_text(HEAD + text)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    said, wrong = process.communicate(timeout=60)
    assert process.returncode == 0, wrong
    return said


def test_runs_of_two_projects_never_have_the_same_device(tmp_path):
    for process in [launch(tmp_path / name, ALONE) for name in ("one", "two")]:
        finish(process)
    assert (tmp_path / "made").read_text() == "xxxx"


def test_a_run_that_waited_takes_what_the_other_one_has_made_meanwhile(tmp_path):
    for process in [launch(tmp_path / "one", ALONE) for _ in range(2)]:
        finish(process)
    assert (tmp_path / "made").read_text() == "xx"


def test_the_devices_of_a_run_that_is_killed_are_free_once_its_processes_are_gone(tmp_path):
    sleeps = ALONE.replace(
        "time.sleep(0.1)",
        '(HERE.parent / "pid").write_text(str(os.getpid())); time.sleep(60)',
    )
    victim = launch(tmp_path / "one", sleeps)
    wait_for(tmp_path / "pid")
    other = launch(tmp_path / "two", ALONE)
    wait_for(tmp_path / "two" / ".charkha" / "runs", "other runs 1")
    worker = int((tmp_path / "pid").read_text())
    os.kill(worker, signal.SIGSTOP)  # as one that the driver does not let go
    victim.kill()
    victim.wait()
    assert is_locked(tmp_path / "locks" / "a")
    (tmp_path / "a").unlink()
    os.kill(worker, signal.SIGCONT)
    victim.communicate()
    assert "waits for a GPU: this run uses 0 of 1, other runs 1" in finish(other)


def wait_for(path, text=""):
    until = time.monotonic() + 30
    while not (
        any(text in file.read_text() for file in path.glob("*/journal.jsonl"))
        if text
        else path.exists()
    ):
        assert time.monotonic() < until, f"{path} is not there"
        time.sleep(0.02)
