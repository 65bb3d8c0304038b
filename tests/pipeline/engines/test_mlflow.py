"""The contract of engines on `mlflow run`, and how MLflow's run and ours are one."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.projects.utils import fetch_and_validate_project, load_project
from mlflow.utils.environment import _PythonEnv

import charkha
from charkha.models import tracker
from charkha.pipeline import submitting
from charkha.pipeline.engines.contract import EngineContract, digests, planned, wait_for
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.run import run
from charkha.pipeline.runs import read_run
from charkha.project import open_project

GOLDEN = Path(__file__).parent / "golden" / "mlflow"


class TestMlflow(EngineContract):
    name = "mlflow"

    @pytest.fixture
    def tables(self, tables):
        return tables

    @pytest.fixture
    def settings(self, tmp_path, tables):
        shutil.copyfile(tables, tmp_path / "mlflow.db")
        return f'[tracking]\nuri = "sqlite:///{tmp_path}/mlflow.db"\n'

    def test_mlflow_run_alone_makes_what_we_make_and_one_run_of_mlflow(self, project):
        (made,) = typed(project, "-P", "count=4", "-P", "plus=1")
        assert (made.info.status, made.data.params["plus"]) == ("FINISHED", "1")
        [ours] = [folder.name for folder in (project.state / "runs").iterdir()]
        assert made.data.tags["charkha.run"] == ours
        assert made.data.tags["mlflow.source.type"] == "PROJECT"
        here = run(project=project, params={"count": 4, "plus": 1.0})
        assert {step.how for step in here.steps.values()} == {"reused"}
        assert digests(read_run(ours, project)) == digests(here)

    def test_a_parameter_that_the_pipeline_has_not_is_refused_before_a_step_runs(self, project):
        (made,) = typed(project, "-P", "cuont=4", code=1, says="--cuont")
        assert made.info.status == "FAILED"
        assert not (project.state / "runs").exists()

    def test_a_run_that_is_stopped_is_killed_in_mlflow_too(self, project):
        started = submitting.submit(project, "mlflow", params={"seconds": 600.0, "fails": 0})
        wait_for(Path(os.environ["CHARKHA_TEST_MARKS"]) / "slow", self.patience_s)
        submitting.cancel(project, started)
        tracker.wait(project, started)
        (made,) = runs_of(project)
        assert (made.info.run_name, made.info.status) == (started, "KILLED")

    def test_what_mlflow_says_of_a_server_that_is_away_is_the_runs_error(self, project):
        away = 'uri = "http://127.0.0.1:9"'
        text = (project.root / "charkha.toml").read_text()
        (project.root / "charkha.toml").write_text(re.sub('uri = ".*"', away, text))
        done = self.submitted(open_project(project.root))
        assert done.status == "failed"
        assert "mlflow: it ended with 1: " in str(done.error)
        assert "127.0.0.1" in str(done.error)

    def test_the_compiled_text_is_the_golden_one_and_mlflow_reads_it(self, project):
        """Renew it with CHARKHA_RENEW_GOLDEN=1."""
        made = open_engine(project, "mlflow").compile(planned(project))
        if os.environ.get("CHARKHA_RENEW_GOLDEN"):
            (GOLDEN / "MLproject").write_text(made["MLproject"])
        assert made["MLproject"] == (GOLDEN / "MLproject").read_text()
        for name, text in made.items():
            (project.root / name).write_text(text)
        fetch_and_validate_project(str(project.root), None, "main", {"count": "4"})
        main = load_project(str(project.root)).get_entry_point("main")
        assert main.compute_command({"count": "4"}, None) == (
            "charkha step all --engine mlflow"
            " --param count=4 --param plus=0.5 --param fails=1 --param seconds=0.0"
        )

    def test_its_environment_is_charkha_and_what_the_steps_import_in_exact_versions(self, project):
        entry = project.root / project.pipeline.entry
        entry.write_text(entry.read_text().replace("import time\n", "import time\nimport yaml\n"))
        made = open_engine(project, "mlflow").compile(planned(project))
        (project.root / "python_env.yaml").write_text(made["python_env.yaml"])
        found = _PythonEnv.from_yaml(project.root / "python_env.yaml")
        assert found.python == ".".join(map(str, sys.version_info[:3]))
        assert found.dependencies[0] == f"charkha[local]=={charkha.__version__}"
        assert f"pyyaml=={yaml.__version__}" in [line.lower() for line in found.dependencies]
        assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.+!]+", d) for d in found.dependencies)


def typed(project, *words, code=0, says=""):
    """Render, and type `mlflow run` into a shell as somebody would; return MLflow's runs."""
    for name, text in open_engine(project, "mlflow").compile(planned(project)).items():
        (project.root / name).write_text(text)
    done = subprocess.run(
        [Path(sys.executable).with_name("mlflow"), "run", ".", "--env-manager", "local", *words],
        cwd=project.root,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": project.tracking.uri,
        },
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert says in said
    return runs_of(project)


def runs_of(project):
    """Return all runs that MLflow has."""
    with warnings.catch_warnings(), contextlib.chdir(project.root):
        warnings.simplefilter("ignore")
        client = MlflowClient(project.tracking.uri)
        return client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_five_hundred_steps_are_compiled_in_one_pass(tmp_path):
    project = many(tmp_path, "five_hundred_for_mlflow")
    made = open_engine(project, "mlflow").compile(planned(project))
    assert len(planned(project).tasks) == 500
    assert "count={count}" in made["MLproject"]


def many(folder, name):
    """Make a project with a pipeline of 500 steps, one after another."""
    (folder / "charkha.toml").write_text(
        f'[project]\nname = "many"\n[pipeline]\nentry = "{name}.py"\n'
    )
    (folder / f"{name}.py").write_text(
        "from charkha import pipeline, step\n\n\n"
        "@step\ndef more(number: int) -> int:\n    return number + 1\n\n\n"
        "@pipeline\ndef chain(count: int = 0) -> None:\n"
        "    made = more(count)\n    for _ in range(499):\n        made = more(made)\n"
    )
    return open_project(folder)
