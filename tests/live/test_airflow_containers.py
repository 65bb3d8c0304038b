"""A DAG whose tasks are containers, on the real Airflow and a real Docker; and pods, as far as one comes."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from charkha.pipeline import submitting
from charkha.pipeline.boards import open_board
from charkha.pipeline.engines.airflow import AirflowEngine
from charkha.project import open_project

from .airflow_session import AIRFLOW, BINARIES, ROOT, SOURCES, TINY, until

pytestmark = AIRFLOW
GOLDENS = ROOT / "tests" / "pipeline" / "engines" / "golden" / "airflow"
HERE = Path(sys.executable).parent.resolve().parent  # the environment, whatever links lead to it
IMAGE = "charkha-nothing:1"  # all that a container has is mounted from this machine
POD = """
import json
import runpy
import sys
from kubernetes.client import ApiClient

dag = runpy.run_path(sys.argv[1])["dag"]
pods = {}
for name in ("rows", "chosen", "grown.elements"):
    pod = dag.get_task(name).build_pod_request_obj()
    pods[name] = ApiClient().sanitize_for_serialization(pod)
json.dump(pods, open(sys.argv[2], "w"))
"""


def docker(*words, **more):
    return subprocess.run(["docker", *words], capture_output=True, **more)


@pytest.fixture
def image():
    if shutil.which("docker") is None or docker("info").returncode:
        pytest.skip("no Docker answers here (DOCKER_HOST, /var/run/docker.sock)")
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    assert docker("import", "-", IMAGE, input=empty.getvalue()).returncode == 0
    return IMAGE


@pytest.fixture
def root(airflow, image, tmp_path, marks, monkeypatch):
    made = tmp_path / "tiny"
    made.mkdir()
    name = f"tiny_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
    pipeline = TINY.replace("@step\ndef waiting", '@step(cpu=2, memory="2GB")\ndef waiting')
    (made / f"{name}.py").write_text(pipeline)
    system = [p for p in ("/usr", "/bin", "/lib", "/lib64", "/etc") if Path(p).exists()]
    folders = dict.fromkeys([*system, sys.base_prefix, str(HERE), str(SOURCES), str(tmp_path)])
    settings = airflow.settings(
        tmp_path,
        tasks="docker",
        image=image,
        folder=str(made),
        python=str(HERE / "bin" / "python"),
        mounts=[f"{folder}:{folder}" for folder in folders],
        network="host",
    )
    toml = f'[project]\nname = "tiny"\n[pipeline]\nentry = "{name}.py"\n{settings}'
    (made / "charkha.toml").write_text(toml)
    monkeypatch.chdir(made)
    return made


def test_steps_and_elements_are_containers_which_a_run_that_is_stopped_takes_along(root, marks):
    project = open_project(root)
    (marks / "wait").touch()
    run = submitting.submit(project, "airflow")
    engine, handle = submitting._engine_of(project, run)
    until(lambda: (marks / "waiting").exists() or engine.state(handle).status == "failed")
    state = engine.state(handle)
    said = "\n".join(engine.log(handle, task) for task in ("charkha.start", *state.tasks))
    assert (marks / "waiting").exists(), said
    assert (marks / "waiting").read_text() == "1"  # the only process there is
    board = open_board(project, run)
    assert len(board.events(["squared"])) == 4  # each of two begun, and done
    [container] = containers()
    limits = docker("inspect", "--format", "{{json .HostConfig}}", container, text=True).stdout
    told = json.loads(limits)
    assert (told["Memory"], told["CpuShares"]) == (2_000_000_000, 2048)

    assert submitting.cancel(project, run).status == "interrupted"
    until(lambda: not containers())


def test_pods_are_what_the_golden_file_says(tmp_path):
    """No cluster is asked: the provider makes the pod, and needs to know one for that."""
    text = (GOLDENS / "kubernetes.py").read_text()
    template = tmp_path / "pod.yaml"
    template.write_text(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n"
        "  - name: base\n    envFrom:\n    - secretRef: {name: houses}\n"
    )
    (tmp_path / "dag.py").write_text(text.replace("/etc/airflow/pod.yaml", str(template)))
    (tmp_path / "pods.py").write_text(POD)
    named = {"clusters": "cluster", "users": "user", "contexts": "context"}
    contents = {"cluster": {"server": "http://127.0.0.1:1"}, "user": {}}
    contents["context"] = {"cluster": "none", "user": "none"}
    config = {many: [{"name": "none", one: contents[one]}] for many, one in named.items()}
    (tmp_path / "config").write_text(json.dumps({**config, "current-context": "none"}))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PYTHON"))},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": '{"conn_type": "kubernetes"}',
        "KUBECONFIG": str(tmp_path / "config"),
    }
    made = tmp_path / "pods.json"
    command = [BINARIES / "python", "pods.py", "dag.py", made]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pods = json.loads(made.read_text())

    spec = pods["chosen"]["spec"]
    [container] = spec["containers"]
    assert pods["chosen"]["metadata"]["namespace"] == "team"
    assert spec["serviceAccountName"] == "pipeline-runner"
    assert container["image"] == "registry.example.org/houses:1"
    assert container["command"][:3] == ["charkha", "step", "run"]
    assert container["resources"]["limits"] == {"cpu": "0.5"}
    assert container["env"] == [{"name": "AWS_ENDPOINT_URL", "value": "http://10.0.0.7:9000"}]
    assert container["envFrom"] == [{"secretRef": {"name": "houses"}}]
    counting = pods["grown.elements"]["spec"]["containers"]
    assert [one["name"] for one in counting] == ["base", "airflow-xcom-sidecar"]
    assert counting[0]["command"][2] == '"$@" > /airflow/xcom/return.json'


@pytest.mark.parametrize("tasks", ["docker", "kubernetes"])
def test_airflow_reads_the_golden_file_of_containers(airflow, tmp_path, tasks):
    dag = f"golden-{tasks}-{os.getpid()}"
    text = (GOLDENS / f"{tasks}.py").read_text().replace('"houses-forest"', f'"{dag}"')
    (tmp_path / "charkha.toml").write_text(airflow.settings(tmp_path))
    (airflow.dags / f"{dag}.py").write_text(text)
    engine = AirflowEngine(open_project(tmp_path))
    until(lambda: engine._source(dag) or engine._import_error(f"{dag}.py"))
    assert engine._import_error(f"{dag}.py") is None


def containers():
    """Return the ids of the containers that run."""
    return docker("ps", "--quiet", "--filter", f"ancestor={IMAGE}", text=True).stdout.split()
