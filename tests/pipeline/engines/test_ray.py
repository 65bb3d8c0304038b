"""The contract of engines on a Ray of two nodes on loopback, and what is particular to Ray."""

import ast
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

import charkha
from charkha.errors import MissingExtra, ProjectError, Unavailable
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline import submitting
from charkha.pipeline.engines.contract import EngineContract, planned, wait_for
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.runs import ENGINE_FILE, list_runs, open_artifacts, read_run
from charkha.project import open_project
from charkha.stamps import is_ours, stamped

GOLDEN = Path(__file__).parent / "golden" / "ray" / "prices_ray.py"

RAY = Path(sys.executable).with_name("ray")
SOURCES = Path(charkha.__file__).parent.parent
NODES = ({"cpus": 2, "gpus": 0}, {"cpus": 1, "gpus": 1})  # the second one's GPU is pretended
PIPELINES = """
import os
import time
from pathlib import Path

from charkha import pipeline, step


def mark(name, text):
    file = Path(os.environ["CHARKHA_TEST_MARKS"]) / name
    file.with_suffix(".partial").write_text(text)
    file.with_suffix(".partial").replace(file)


def wait_for(pattern, count):
    while len(list(Path(os.environ["CHARKHA_TEST_MARKS"]).glob(pattern))) < count:
        time.sleep(0.05)


@step
def placed(number: int) -> str:
    mark(f"placed-{number}.here", "")
    wait_for("placed-*.here", 3)  # all of them at the same time, for which no node has room
    return os.environ["CHARKHA_TEST_NODE"]


@step(gpu=0.5, cpu=0.1)
def shared(number: int, after: list) -> dict:
    mark(f"shared-{number}.here", "")
    begun = time.time()
    wait_for("shared-*.here", 2)
    time.sleep(1)
    return {"begun": begun, "ended": time.time(), "device": os.environ["CUDA_VISIBLE_DEVICES"]}


@pipeline
def wide() -> None:
    shared.each(number=[0, 1, 2])(after=placed.each(number=[0, 1, 2])())


@step(retries=1)
def patient() -> int:
    mark("patient", str(os.getpid()))
    wait_for("go", 1)
    return 1


@pipeline
def tried() -> None:
    patient()


@step(cpu=64, memory="1GB")
def huge() -> int:
    return 1


@pipeline
def vast() -> None:
    huge()


@step(retries=2, retry_wait_s=30)
def rows(year: int) -> list[int]:
    return [year]


@step(cpu=0.5, gpu=0.25, memory="2 GiB", timeout_s=600)
def fit(rows: list, alpha: float) -> float:
    return alpha


@step(group="judged")
def scores(models: list) -> float:
    return 1.0


@step(group="judged", gpu=1, cpu=4)
def best(score: float, models: list) -> float:
    return score


@step(name="class")
def published(model: float, region: str) -> str:
    return region


@pipeline
def prices(year: int = 2006, alphas: list = [0.1, 1.0], region: str = 'the "north"') -> None:
    models = fit.each(alpha=alphas)(rows(year))
    published(best(scores(models), models), region)


@pipeline
def five_hundred() -> None:
    value = rows(1)
    for number in range(499):
        value = rows(value)
"""
GUARDED = 'exec 3<&0; (read -r _ <&3; kill $$) & exec "$@" 3<&- </dev/null'
OWN = [
    "--node-ip-address=127.0.0.1",
    "--min-worker-port=0",
    "--max-worker-port=0",
    "--object-store-memory=80000000",
]


@pytest.fixture(scope="session")
def address():
    """Return the address of a Ray of two nodes, each a raylet of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = f"127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # the names of its sockets have to be short
    nodes = []
    token = pytest.MonkeyPatch()  # else anybody on this machine might hand it tasks
    token.setenv("RAY_AUTH_MODE", "token")
    token.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    try:
        for number, has in enumerate(NODES):
            head = [
                "--head",
                f"--port={port}",
                "--include-dashboard=false",
                "--disable-usage-stats",
            ]
            where = [*head, f"--temp-dir={folder}"] if number == 0 else [f"--address={found}"]
            words = [*where, f"--num-cpus={has['cpus']}", f"--num-gpus={has['gpus']}", *OWN]
            nodes.append(started(words, folder / f"node{number}.log"))
        yield found
    finally:
        for node in reversed(nodes):
            node.stdin.close()
        for node in nodes:
            node.wait(60)
        token.undo()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def schema(tmp_path_factory):
    """Return a database with MLflow's tables, which take 5 s to make."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with warnings.catch_warnings(), contextlib.chdir(path.parent):  # where it makes mlruns/
        warnings.simplefilter("ignore")
        MlflowRegistry(f"sqlite:///{path}").versions()
    return path


def started(words, log):
    """Start a node that ends when we do, and return when it says that it runs."""
    with log.open("wb") as out:
        node = subprocess.Popen(
            ["sh", "-c", GUARDED, "ray", RAY, "start", "--block", *words],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": str(SOURCES),
                "CHARKHA_TEST_NODE": log.stem,
                "RAY_worker_niceness": "0",
            },
        )
    until = time.monotonic() + 120
    while "--block" not in log.read_text():
        assert node.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return node


def made(folder, pipeline, *lines):
    """Return a project with one of the pipelines above."""
    name = f"ray_{pipeline}_{abs(hash(folder)) % 10**8}"  # a module is imported once
    root = folder / "houses"
    root.mkdir()
    (folder / "marks").mkdir()
    head = f'[project]\nname = "houses"\n[pipeline]\nentry = "{name}.py:{pipeline}"\n'
    (root / "charkha.toml").write_text(head + "\n".join(lines))
    (root / f"{name}.py").write_text(PIPELINES)
    return open_project(root)


def settings_of(folder, address, schema):
    """Return lines of charkha.toml for the Ray of this session."""
    shutil.copyfile(schema, folder / "mlflow.db")
    return (
        f'[tracking]\nuri = "sqlite:///{folder}/mlflow.db"\n'
        f'[ray]\naddress = "{address}"\npatience_s = 0\n'
        f'[ray.runtime_env.env_vars]\nCHARKHA_TEST_MARKS = "{folder / "marks"}"\n'
    )


class TestRay(EngineContract):
    name = "ray"

    @pytest.fixture
    def settings(self, address, tmp_path, schema):
        return settings_of(tmp_path, address, schema)

    def test_an_address_that_does_not_answer_is_said_before_anything_is_begun_there(self, project):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            away = f"127.0.0.1:{closed.getsockname()[1]}"
        file = project.root / "charkha.toml"
        file.write_text(file.read_text().replace(project.ray.address, away))
        project = open_project(project.root)
        with pytest.raises(Unavailable, match="does not answer") as refused:
            submitting.submit(project, "ray")
        assert "ray start --head" in refused.value.fix
        assert [one.status for one in list_runs(project)] == ["failed"]


@pytest.fixture(scope="module")
def spread(address, schema, tmp_path_factory):
    """Return what the elements of two fan-outs returned, of which the second shares a GPU."""
    folder = tmp_path_factory.mktemp("spread")
    project = made(folder, "wide", settings_of(folder, address, schema))
    done = submitting.follow(project, submitting.submit(project, "ray"))
    assert done.status == "finished", done.error
    artifacts = open_artifacts(project)
    return {name: artifacts.load(step.outputs["result"]) for name, step in done.steps.items()}


def test_a_fan_out_is_wider_than_a_node(spread):
    assert len({spread[f"placed[{n}]"] for n in range(3)}) == 2


def test_two_steps_share_a_gpu_and_a_third_waits(spread):
    shared = [spread[f"shared[{n}]"] for n in range(3)]
    first, second, third = sorted(shared, key=lambda one: one["begun"])
    assert {one["device"] for one in (first, second, third)} == {"0"}
    assert second["begun"] < first["ended"]
    assert third["begun"] > min(first["ended"], second["ended"])


def test_a_step_whose_ray_worker_is_killed_is_tried_again_and_not_left_running(
    address, schema, tmp_path
):
    project = made(tmp_path, "tried", settings_of(tmp_path, address, schema))
    started = submitting.submit(project, "ray")
    first = pid_in(tmp_path / "marks" / "patient")
    os.kill(parent_of(first), signal.SIGKILL)
    gone(first)
    (tmp_path / "marks" / "go").touch()
    done = submitting.follow(project, started)
    assert (done.status, done.steps["patient"].attempts) == ("finished", 2)


def test_a_run_whose_driver_is_killed_has_failed_and_leaves_nothing_running(
    address, schema, tmp_path
):
    project = made(tmp_path, "tried", settings_of(tmp_path, address, schema))
    started = submitting.submit(project, "ray")
    step = pid_in(tmp_path / "marks" / "patient")
    handle = json.loads((project.state / "runs" / started / ENGINE_FILE).read_text())["handle"]
    [driver] = children_of(int(handle["pid"]))
    os.kill(driver, signal.SIGKILL)
    assert submitting.follow(project, started).status == "failed"
    gone(step)


def test_a_driver_started_by_hand_and_stopped_ends_its_run_as_interrupted(
    address, schema, tmp_path
):
    project = made(tmp_path, "tried", settings_of(tmp_path, address, schema))
    [(name, text)] = open_engine(project, "ray").compile(planned(project)).items()
    (project.root / name).write_text(text)
    driver = subprocess.Popen([sys.executable, name, "--run", "by-hand"], cwd=project.root)
    step = pid_in(tmp_path / "marks" / "patient")
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 128 + signal.SIGTERM
    gone(step)
    assert read_run("by-hand", project).status == "interrupted"


def test_what_no_node_has_is_said_and_not_waited_for(address, schema, tmp_path):
    project = made(tmp_path, "vast", settings_of(tmp_path, address, schema))
    done = submitting.follow(project, submitting.submit(project, "ray"))
    assert done.status == "failed"
    assert "no node of this Ray has {'num_cpus': 64, 'memory': 1000000000}" in done.error


def pid_in(mark):
    wait_for(mark, 120)
    return int(mark.read_text())


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid):
    """Wait until a process has ended, though nobody may have asked how."""
    until = time.monotonic() + 30
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while ") Z " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < until, f"{pid} goes on"
            time.sleep(0.05)


HERE = ['[ray]\naddress = "10.0.0.5:6379"\nfolder = "/srv/houses"']


def test_the_compiled_text_is_the_golden_one_and_python_reads_it(tmp_path):
    """Renew it with CHARKHA_RENEW_GOLDEN=1."""
    project = made(tmp_path, "prices", *HERE, '[ray.runtime_env]\npip = ["lightgbm==4.6.0"]')
    [(name, text)] = open_engine(project, "ray").compile(planned(project)).items()
    if os.environ.get("CHARKHA_RENEW_GOLDEN"):
        GOLDEN.write_text(stamped(text))
    assert name == GOLDEN.name
    assert stamped(text) == GOLDEN.read_text()
    assert is_ours(GOLDEN.read_text())
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    names = {alias.name for node in imports for alias in node.names}
    assert names - sys.stdlib_module_names == {"ray"}


def test_five_hundred_steps_are_compiled_in_one_pass(tmp_path):
    project = made(tmp_path, "five_hundred")
    [text] = open_engine(project, "ray").compile(planned(project)).values()
    assert text.count('"after": ["rows') == 499


def test_without_ray_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    project = made(tmp_path, "tried")
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    with pytest.raises(MissingExtra, match="ray"):
        submitting.submit(project, "ray")


@pytest.mark.parametrize("address", ["http://10.0.0.5:8265", "10.0.0.5", "ray://10.0.0.5:10001"])
def test_an_address_that_no_driver_takes_is_refused_where_it_stands(tmp_path, address):
    with pytest.raises(ProjectError, match=r"charkha\.toml:6") as refused:
        made(tmp_path, "tried", f'[ray]\naddress = "{address}"')
    assert "HOST:6379" in refused.value.fix
