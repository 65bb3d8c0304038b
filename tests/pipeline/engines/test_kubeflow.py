"""The contract of engines on `kfp.local`, and what Kubeflow's own parser and client make of it.

No server of Kubeflow runs here. What would be sent to one is looked at on loopback.
"""

import json
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2

from charkha.errors import BackendError, ProjectError, Unavailable
from charkha.pipeline import submitting
from charkha.pipeline.engines.contract import EngineContract, digests, planned
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.plans import tasks_of
from charkha.pipeline.run import run
from charkha.pipeline.runs import list_runs
from charkha.project import open_project

GOLDEN = Path(__file__).parent / "golden" / "kubeflow"
IMAGE = "registry.example.org/parity:1"

MEASURED = """

@step(outputs=("metrics",))
def measured(squares: list) -> dict[str, float]:
    return {"sum": sum(squares), "most": max(squares)}
"""


class TestKubeflow(EngineContract):
    name = "kubeflow"

    @pytest.fixture
    def tables(self, tables):
        return tables

    @pytest.fixture
    def settings(self):
        return f'[kubeflow]\nimage = "{IMAGE}"\n'

    def test_the_compiled_text_is_the_golden_one_and_kubeflow_reads_it(self, project):
        """Renew it with CHARKHA_RENEW_GOLDEN=1."""
        (text,) = open_engine(project, "kubeflow").compile(planned(project)).values()
        if os.environ.get("CHARKHA_RENEW_GOLDEN"):
            (GOLDEN / "kubeflow.yaml").write_text(text)
        assert text == (GOLDEN / "kubeflow.yaml").read_text()
        spec = parsed(text)
        assert set(spec.root.dag.tasks) == {"steps", "finish"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = components.load_component_from_text(text)
        types = {name: given.type for name, given in loaded.component_spec.inputs.items()}
        assert types == {
            "charkha_run": "String",
            "count": "Integer",
            "plus": "Float",
            "fails": "Integer",
            "seconds": "Float",
        }

    def test_it_is_what_kubeflows_own_compiler_makes_of_the_same_pipeline(self, project):
        (text,) = open_engine(project, "kubeflow").compile(planned(project)).values()
        by_hand = project.root / "by_hand.yaml"
        source = Path(__file__).with_name("kubeflow_by_hand.py")
        code = (
            "import warnings; warnings.simplefilter('ignore')\n"
            "import runpy, sys\nfrom kfp import compiler\n"
            "made = runpy.run_path(sys.argv[1])['parity']\n"
            "compiler.Compiler().compile(made, sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, source, by_hand], check=True)
        shaped = by_hand.read_text().replace("SHAPE", planned(project).shape)
        assert story(parsed(text)) == story(parsed(shaped))

    def test_no_task_is_cached_by_kubeflow(self, project):
        (text,) = open_engine(project, "kubeflow").compile(planned(project)).values()
        spec = parsed(text)
        dags = [spec.root.dag, *(one.dag for one in spec.components.values())]
        tasks = [task for dag in dags for task in dag.tasks.values()]
        assert tasks
        assert not any(task.caching_options.enable_cache for task in tasks)

    def test_what_a_step_asks_for_is_what_its_container_gets(self, project):
        made = asking(planned(project), "slow", cpu=2.0, memory="4GB", gpu=1.0)
        (text,) = open_engine(project, "kubeflow").compile(made).values()
        spec = json_format.MessageToDict(parsed(text))
        task = spec["components"]["comp-steps"]["dag"]["tasks"]["slow"]
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        container = spec["deploymentSpec"]["executors"][label]["container"]
        assert container["image"] == IMAGE
        assert container["resources"] == {
            "cpuRequest": 2.0,
            "cpuLimit": 2.0,
            "resourceCpuRequest": "2",
            "resourceCpuLimit": "2",
            "memoryRequest": 4.0,
            "memoryLimit": 4.0,
            "resourceMemoryRequest": "4000000000",
            "resourceMemoryLimit": "4000000000",
            "accelerator": {
                "type": "nvidia.com/gpu",
                "count": "1",
                "resourceType": "nvidia.com/gpu",
                "resourceCount": "1",
            },
        }

    def test_a_part_of_a_gpu_is_refused_with_the_step_and_a_way_round(self, project):
        made = asking(planned(project), "slow", gpu=0.5)
        with pytest.raises(ProjectError, match=r"step 'slow': asks for gpu=0\.5") as refused:
            open_engine(project, "kubeflow").compile(made)
        assert "gpu=1" in str(refused.value.fix)

    def test_without_an_image_nothing_is_rendered(self, project):
        project = replace(project, kubeflow=replace(project.kubeflow, image=None))
        with pytest.raises(ProjectError, match="which image") as refused:
            open_engine(project, "kubeflow").compile(planned(project))
        assert "image =" in str(refused.value.fix)

    def test_a_run_that_kubeflow_begins_by_itself_has_kubeflows_id(self, project):
        entry = project.root / project.pipeline.entry
        called = entry.read_text().replace("    slow(", "    measured(squares)\n    slow(")
        entry.write_text(called + MEASURED)
        file = project.root / "kubeflow.yaml"
        (text,) = open_engine(project, "kubeflow").compile(planned(project)).values()
        file.write_text(text)
        module = "charkha.pipeline.engines.kubeflow_local"
        here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", module, str(file), ""],
            cwd=project.root,
            env={**os.environ, "PATH": here},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [made] = list_runs(project)
        assert (made.status, made.steps["shaky"].attempts) == ("finished", 2)
        [file] = (project.root / "kubeflow").rglob("finish/executor_output.json")
        [metrics] = json.loads(file.read_text())["artifacts"]["metrics"]["artifacts"]
        assert metrics["metadata"] == {"sum": 6.5, "most": 4.5}
        assert digests(made) == digests(run(project=project))

    def test_a_server_gets_the_file_our_runs_id_and_the_settings(
        self, project, server, monkeypatch
    ):
        monkeypatch.setenv("KUBEFLOW_TOKEN", "not-a-secret")
        project = on(project, server, 'service_account = "runner"\ntoken = "env:KUBEFLOW_TOKEN"\n')
        started = submitting.submit(project, "kubeflow", params={"count": 4})
        sent = server.runs["kf-1"]
        assert server.experiments == ["parity"]
        assert (sent["display_name"], sent["service_account"]) == (started, "runner")
        assert sent["runtime_config"]["parameters"] == {"charkha_run": started}
        given = json_format.ParseDict(sent["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        assert given.root.input_definitions.parameters["count"].default_value.number_value == 4
        assert server.tokens == {"Bearer not-a-secret"}

    def test_what_a_server_says_of_a_run_is_how_it_ended(self, project, server):
        project = on(project, server)
        started = submitting.submit(project, "kubeflow")
        server.runs["kf-1"] |= {"state": "FAILED", "error": {"message": "no such image"}}
        done = submitting.follow(project, started)
        assert (done.status, done.error) == ("failed", "kubeflow: no such image")

    def test_a_run_on_a_server_is_stopped_there(self, project, server):
        project = on(project, server)
        started = submitting.submit(project, "kubeflow")
        assert submitting.cancel(project, started).status == "interrupted"
        assert server.runs["kf-1"]["state"] == "CANCELED"

    def test_a_server_is_looked_at_less_often_than_a_process_of_this_machine(self, project, server):
        here, there = (open_engine(p, "kubeflow") for p in (project, on(project, server)))
        assert there.abilities.look_s > here.abilities.look_s

    def test_a_server_that_refuses_or_is_away_is_told_with_what_to_do(self, project, server):
        server.refuses = True
        with pytest.raises(BackendError, match="wants credentials") as refused:
            submitting.submit(on(project, server), "kubeflow")
        assert "token" in str(refused.value.fix)
        server.server_close()
        server.host = "http://127.0.0.1:9"
        with pytest.raises(Unavailable, match="does not answer") as refused:
            submitting.submit(on(project, server), "kubeflow")
        assert "[kubeflow] host" in str(refused.value.fix)
        assert "ConnectionPool" not in refused.value.what


def test_five_hundred_steps_are_compiled_in_one_pass(tmp_path):
    name = "five_hundred_for_kubeflow"
    (tmp_path / "charkha.toml").write_text(
        f'[project]\nname = "many"\n[pipeline]\nentry = "{name}.py"\n[kubeflow]\nimage = "many"\n'
    )
    (tmp_path / f"{name}.py").write_text(
        "from charkha import pipeline, step\n\n\n"
        "@step\ndef more(number: int) -> int:\n    return number + 1\n\n\n"
        "@pipeline\ndef chain(count: int = 0) -> None:\n"
        "    made = more(count)\n    for _ in range(499):\n        made = more(made)\n"
    )
    project = open_project(tmp_path)
    (text,) = open_engine(project, "kubeflow").compile(planned(project)).values()
    assert len(parsed(text).components["comp-steps"].dag.tasks) == 501


def parsed(text):
    """Return what Kubeflow's own parser makes of a file; it refuses fields that it does not know."""
    return json_format.ParseDict(yaml.safe_load(text), pipeline_spec_pb2.PipelineSpec())


def story(spec):
    """Return what happens in a pipeline by the titles of its tasks, whatever its parts are called."""
    told = json_format.MessageToDict(spec)
    root = told["root"]
    inputs = root["inputDefinitions"]["parameters"]
    for given in inputs.values():
        given.pop("description", None)
    return {"inputs": inputs, **_dag(told, root["dag"])}


def _dag(told, dag):
    titles = {name: task["taskInfo"]["name"] for name, task in dag["tasks"].items()}
    return {titles[name]: _told(told, task, titles) for name, task in dag["tasks"].items()}


def _told(told, task, titles):
    component = told["components"][task["componentRef"]["name"]]
    inputs = task.get("inputs", {}).get("parameters", {})
    told_of = {
        "after": sorted(titles[name] for name in task.get("dependentTasks", ())),
        "caching": task.get("cachingOptions", {}).get("enableCache", False),
        "retries": {k: v for k, v in task.get("retryPolicy", {}).items() if "Max" not in k},
        "when": task.get("triggerPolicy"),
        "loop": "parameterIterator" in task,
        "inputs": {_plain(name): _source(given, titles) for name, given in inputs.items()},
        "leaves": component.get("outputDefinitions", {}).get("artifacts"),
    }
    if "dag" in component:
        return {**told_of, "does": _dag(told, component["dag"])}
    container = told["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    words = [word.replace("'elements'", "'Output'") for word in container["args"]]
    types = component["inputDefinitions"]["parameters"]
    return {**told_of, "does": [container["image"], *container["command"], *words], "types": types}


def _source(given, titles):
    if "componentInputParameter" in given:
        return _plain(given["componentInputParameter"])
    if "taskOutputParameter" in given:
        return titles[given["taskOutputParameter"]["producerTask"]]
    if "taskFinalStatus" in given:
        return titles[given["taskFinalStatus"]["producerTask"]]
    return given["runtimeValue"]["constant"]


def _plain(name):
    """Return the name of an input without what kfp's compiler makes of whose output it is."""
    name = name.removeprefix("pipelinechannel--")
    if name.endswith("-loop-item"):
        return "an element"
    return "the elements" if name.endswith(("-elements", "-Output")) else name


def asking(made, step, **asked):
    """Return the plan with a step that asks for this."""
    node = made.graph.nodes[step]
    node = replace(node, options=replace(node.options, **asked))
    graph = replace(made.graph, nodes={**made.graph.nodes, step: node})
    return replace(made, graph=graph, tasks=tasks_of(graph))


def on(project, server, more=""):
    """Return the project with this server."""
    file = project.root / "charkha.toml"
    text = file.read_text().partition("host =")[0]
    file.write_text(f'{text}host = "{server.host}"\nnamespace = "team"\n{more}')
    return open_project(project.root)


class Kubeflow(ThreadingHTTPServer):
    """As much of Kubeflow's REST API v2beta1 as its client asks for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Api)
        self.host = f"http://127.0.0.1:{self.server_address[1]}"
        self.experiments, self.runs, self.tokens, self.refuses = [], {}, set(), False


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        if self.server.refuses:
            self.answer({"error": "no token"}, 401)
        elif path == "/apis/v2beta1/experiments":
            self.answer({})
        else:
            self.answer({"run_id": "kf-1", **self.server.runs[path.rpartition("/")[2]]})

    def do_POST(self):
        size = int(self.headers["Content-Length"] or 0)
        sent = json.loads(self.rfile.read(size) or "{}")
        if token := self.headers["authorization"]:
            self.server.tokens.add(token)
        if self.path == "/apis/v2beta1/experiments":
            self.server.experiments.append(sent["display_name"])
            self.answer({"experiment_id": "e-1", **sent})
        elif self.path.endswith(":terminate"):
            self.server.runs["kf-1"]["state"] = "CANCELED"
            self.answer({})
        else:
            self.server.runs["kf-1"] = {**sent, "state": "RUNNING"}
            self.answer({"run_id": "kf-1"})

    def answer(self, told, status=200):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Kubeflow()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()
