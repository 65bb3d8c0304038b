"""What a step costs on each engine: a chain of no-ops, beside the same chain in the engine's own terms.

A step's cost is the time from one no-op's end to the next one's, so that what a run costs as a
whole (starting Airflow's run, filling MLflow) is in neither column. And how long 500 steps take to
compile. What cannot run here is said to be skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import chain
from measure import ENVIRONMENT, options, report

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
AIRFLOW = ROOT / ".venv" / "airflow" / "bin"
COMPILED_STEPS = 500
COMPILE = """
import json, sys, time
from charkha.errors import UserError
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.plans import plan
from charkha.pipeline.run import load_pipeline
from charkha.plugins import SHIPPED
from charkha.project import open_project
project, took = open_project(), {{}}
began = time.process_time()
planned = plan(load_pipeline(project), project, {{}})
took["plan"] = time.process_time() - began
for name in sorted(SHIPPED["engines"]):
    try:
        engine = open_engine(project, name)
        began = time.process_time()
        engine.compile(planned)
        took[name] = time.process_time() - began
    except UserError as e:
        print(f"{{name}}: skipped, {{e}}", file=sys.stderr)
print(json.dumps(took))
"""
NOTE = "date +%s.%N >> {marks}"
KFP = """
import os, time
from kfp import dsl, local

@dsl.component(install_kfp_package=False)
def more(n: int, marks: str) -> int:
    import time
    with open(marks, "a") as file:
        file.write(f"{{time.time()}}\\n")
    return n + 1

@dsl.pipeline
def chain():
    n = more(n=0, marks="{marks}")
    for _ in range({steps} - 1):
        n = more(n=n.output, marks="{marks}")

local.init(runner=local.SubprocessRunner(use_venv=False))
chain()
"""
RAY = """
import os, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)

@ray.remote
def more(n):
    with open("{marks}", "a") as file:
        file.write(f"{{time.time()}}\\n")
    return n + 1

n = 0
for _ in range({steps}):
    n = more.remote(n)
ray.get(n)
"""
DAG = """
import time
from airflow.sdk import dag, task

@task
def more(n):
    with open("{marks}", "a") as file:
        file.write(f"{{time.time()}}\\n")
    return n + 1

@dag(schedule=None, dag_id="noop")
def chain():
    n = 0
    for _ in range({steps}):
        n = more(n)

chain()
"""


def main() -> None:
    """Measure, print, write."""
    given = options(__doc__ or "")
    steps = 6 if given.quick else 20
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'a step, ms':14}{'Charkha':>10}{'native':>10}{'ratio':>8}{'difference':>12}")
        for engine, why in skipped(given.quick).items():
            if why:
                print(f"{engine:14}skipped: {why}")
                continue
            ours, native = pair(engine, folder, steps)
            figures[f"{engine}_step_ms"] = round(ours, 1)
            if native is None:
                print(f"{engine:14}{ours:10.1f}")
                continue
            figures[f"{engine}_native_ms"] = round(native, 1)
            figures[f"{engine}_ratio"] = round(ours / native, 4)
            print(
                f"{engine:14}{ours:10.1f}{native:10.1f}{ours / native:8.2f}{ours - native:12.1f}",
                flush=True,
            )
        figures |= compiled(folder)
    report(figures, given.json)


def skipped(quick: bool) -> dict[str, str]:
    """Return every engine with why it is not measured; "" where it is."""
    minutes = "it takes more than the minute of --quick" if quick else ""
    return {
        "local": "",
        "workers": "",
        "shell": "",
        "dvc": "" if find_spec("dvc") else "DVC is not installed",
        "kubeflow": "" if find_spec("kfp") else "kfp is not installed",
        "ray": minutes or ("" if find_spec("ray") else "Ray is not installed"),
        "mlflow": minutes or ("" if find_spec("mlflow") else "MLflow is not installed"),
        "airflow": minutes
        or ("" if (AIRFLOW / "airflow").exists() else "no Airflow: make .venv/.airflow"),
        "sagemaker": "its jobs start machines, and there is no AWS here",
    }


def pair(engine: str, folder: Path, steps: int) -> tuple[float, float | None]:
    """Return a step's milliseconds on an engine: Charkha's, and the engine's own no-op's."""
    place = folder / engine
    place.mkdir()
    if engine == "airflow":
        with airflow(place) as (settings, trigger):
            ours = of_charkha(engine, place, steps, settings)
            return ours, between_marks(place, lambda marks: trigger(marks, steps))
    ours = of_charkha(engine, place, steps)
    native = NATIVE.get(engine)
    if native is None:
        return ours, None
    return ours, between_marks(place, lambda marks: native(place / "native", marks, steps))


def of_charkha(engine: str, place: Path, steps: int, settings: str = "") -> float:
    """Run the chain with Charkha, and return the milliseconds between its steps' ends."""
    root = chain.project(place / "project", steps, settings)
    if engine == "dvc":
        call([BIN / "dvc", "init", "-q", "--no-scm"], root)
    where = {"local": (), "workers": ("--workers", "2")}.get(engine, ("--on", engine))
    call([BIN / "charkha", "run", *where], root)
    [journal] = root.glob(".charkha/runs/*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return slope([line["at"] for line in lines if line["event"] == "StepFinished"])


def between_marks(place: Path, run: Callable[[Path], None]) -> float:
    """Return the milliseconds between the times that no-ops have written down."""
    marks = place / "marks"
    (place / "native").mkdir()
    run(marks)
    return slope([float(line) for line in marks.read_text().split()])


def slope(times: list[float]) -> float:
    """Return the mean of the milliseconds between one time and the next."""
    return (max(times) - min(times)) / (len(times) - 1) * 1e3


def natively_shell(folder: Path, marks: Path, steps: int) -> None:
    """Start a program for each step, one after another."""
    (folder / "chain.sh").write_text("set -e\n" + f"{NOTE.format(marks=marks)}\n" * steps)
    call(["sh", "chain.sh"], folder)


def natively_dvc(folder: Path, marks: Path, steps: int) -> None:
    """Reproduce a chain of stages, each of which writes a file of its own."""
    call([BIN / "dvc", "init", "-q", "--no-scm"], folder)
    (folder / "v0").write_text("0")
    stage = "  s{i}:\n    cmd: echo {i} > v{i} && {note}\n    deps: [v{before}]\n    outs: [v{i}]\n"
    note = NOTE.format(marks=marks)
    stages = [stage.format(i=i, before=i - 1, note=note) for i in range(1, steps + 1)]
    (folder / "dvc.yaml").write_text("stages:\n" + "".join(stages))
    call([BIN / "dvc", "repro", "-q"], folder)


def natively_kubeflow(folder: Path, marks: Path, steps: int) -> None:
    """Run a chain of components by kfp.local, in processes of this machine."""
    (folder / "chain.py").write_text(KFP.format(marks=marks, steps=steps))
    call([sys.executable, "chain.py"], folder)


def natively_ray(folder: Path, marks: Path, steps: int) -> None:
    """Run a chain of remote functions on a Ray of this machine."""
    (folder / "chain.py").write_text(RAY.format(marks=marks, steps=steps))
    call([sys.executable, "chain.py"], folder)


def natively_mlflow(folder: Path, marks: Path, steps: int) -> None:
    """Type `mlflow run` for a step, as MLflow's projects have no other way to have several."""
    command = NOTE.format(marks=marks)
    (folder / "MLproject").write_text(
        f"name: noop\nentry_points:\n  main:\n    command: {json.dumps(command)}\n"
    )
    for _ in range(min(steps, 4)):
        call([BIN / "mlflow", "run", ".", "--env-manager", "local"], folder)


NATIVE = {
    "shell": natively_shell,
    "dvc": natively_dvc,
    "kubeflow": natively_kubeflow,
    "ray": natively_ray,
    "mlflow": natively_mlflow,
}


@contextlib.contextmanager
def airflow(place: Path) -> Iterator[tuple[str, Callable[[Path, int], None]]]:
    """Start an Airflow; yield lines of charkha.toml, and what runs a chain of its own no-ops."""
    folder = place / "airflow"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (folder / "alive").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)  # for as long as we hold it, it runs
        server = subprocess.Popen(
            [sys.executable, ROOT / "tests/live/airflow_server.py", folder, AIRFLOW, str(port)],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        patiently(lambda: asked(f"{url}/api/v2/version"), "Airflow")
        settings = (
            f'[airflow]\nurl = "{url}"\npassword = "file:{folder}/password"\n'
            f'dags = "{folder}/dags"\npython = "{sys.executable}"\npatience_s = 600\n'
        )
        (folder / "password").write_text("not-a-secret")

        def trigger(marks: Path, steps: int) -> None:
            (folder / "dags" / "noop.py").write_text(DAG.format(marks=marks, steps=steps))
            login = {"username": "admin", "password": "not-a-secret"}
            token = str(asked(f"{url}/auth/token", login)["access_token"])
            dag = f"{url}/api/v2/dags/noop"
            patiently(
                lambda: asked(dag, {"is_paused": False}, token=token, method="PATCH"), "the DAG"
            )
            asked(f"{dag}/dagRuns", {"logical_date": None, "conf": {}}, token=token)
            patiently(
                lambda: marks.exists() and len(marks.read_text().split()) == steps, "its tasks"
            )

        yield settings, trigger
    server.wait()


def asked(
    url: str, body: object = None, *, token: str = "", method: str | None = None
) -> dict[str, object]:
    """Return the answer of an HTTP endpoint of this machine."""
    data = None if body is None else json.dumps(body).encode()
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data, head, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        told: dict[str, object] = json.loads(answer.read())
    return told


def patiently(ready: Callable[[], object], what: str, patience_s: float = 600) -> None:
    """Wait until something is there."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.2)
    sys.exit(f"{what} was not there within {patience_s:.0f} s")


def compiled(folder: Path) -> dict[str, float]:
    """Return how many CPU seconds it takes to compile 500 steps for each engine."""
    settings = (
        '[blobs]\nurl = "s3://houses/blobs"\n'
        '[kubeflow]\nimage = "houses:1"\n'
        '[sagemaker]\nimage = "123456789012.dkr.ecr.us-east-1.amazonaws.com/houses:1"\n'
        'role = "arn:aws:iam::123456789012:role/charkha"\n'
    )
    root = chain.project(folder / "many", COMPILED_STEPS, settings)
    said = call([sys.executable, "-c", COMPILE.format()], root)
    print(f"\n{COMPILED_STEPS} steps compiled, CPU s (and once for all of them, the plan)")
    took: dict[str, float] = json.loads(said.strip().splitlines()[-1])
    for name, seconds in took.items():
        print(f"{name:14}{seconds:10.2f}")
    return {f"{name}_compile_500_s": round(seconds, 3) for name, seconds in took.items()}


def call(command: list[str | Path], folder: Path) -> str:
    """Run a command that has to work; return what it printed."""
    environment = {**ENVIRONMENT, "PATH": f"{BIN}{os.pathsep}{ENVIRONMENT['PATH']}"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}")
    if done.stderr and re.search(r"^\w+: skipped", done.stderr, re.MULTILINE):
        print(done.stderr.strip())
    return done.stdout


if __name__ == "__main__":
    main()
