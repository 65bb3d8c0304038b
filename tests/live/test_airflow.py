"""A real Airflow on loopback: API server, scheduler and DAG processor, in an environment of its own."""

import os
import shutil
import signal
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from charkha.cli.main import main
from charkha.errors import BackendError, UserError
from charkha.loop.opening import trainer_of
from charkha.pipeline import submitting
from charkha.pipeline.boards import open_board
from charkha.pipeline.engines.airflow import AirflowEngine
from charkha.pipeline.engines.airflow_api import AirflowApi
from charkha.pipeline.engines.contract import EngineContract, planned, wait_for
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.runs import list_runs, read_run
from charkha.project import open_project

from .airflow_session import AIRFLOW, PATIENCE_S, TINY, until

ROOT = Path(__file__).parent.parent.parent
pytestmark = AIRFLOW


WATCHED = """
import pandas as pd

from charkha import dataset, pipeline, step


@step
def counted(sales: pd.DataFrame) -> int:
    return len(sales)


@pipeline
def watched() -> None:
    counted(dataset("sales"))
"""


class TestAirflow(EngineContract):
    name = "airflow"
    patience_s = float(PATIENCE_S)

    @pytest.fixture
    def settings(self, airflow, tmp_path):
        return airflow.settings(tmp_path)


@pytest.fixture
def root(airflow, tmp_path, marks, monkeypatch):
    """A project with the tiny pipeline and a schedule."""
    made = tmp_path / "tiny"
    made.mkdir()
    name = f"tiny_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
    (made / f"{name}.py").write_text(TINY)
    (made / "charkha.toml").write_text(
        f'[project]\nname = "tiny"\n[pipeline]\nentry = "{name}.py"\n'
        'schedule = "30 2 * * 1-5"\ntimezone = "Europe/Berlin"\n' + airflow.settings(tmp_path)
    )
    monkeypatch.chdir(made)
    return made


def test_a_run_that_a_person_starts_in_airflow_is_found_and_its_params_are_the_pipelines(
    root, airflow
):
    project = open_project(root)
    engine, api = AirflowEngine(project), AirflowApi(project)
    dag = project.airflow.dag
    shutil.copy(rendered(root), airflow.dags / f"{dag}.py")
    until(lambda: engine._source(dag))

    details = api.get(f"dags/{dag}/details")
    assert details["is_paused"]
    assert (details["timetable_description"], details["timezone"]) == (
        "At 02:30, Monday through Friday",
        "UTC",  # of the DAG: its timetable has its own
    )
    coming = datetime.fromisoformat(api.get(f"dags/{dag}")["next_dagrun_run_after"])
    assert (coming.hour, coming.minute) in ((0, 30), (1, 30))  # 02:30 in Berlin
    kinds = {name: param["schema"].get("type") for name, param in details["params"].items()}
    assert kinds == {"count": "integer", "name": "string", "share": None}

    with pytest.raises(BackendError, match="many"):
        triggered(api, dag, count="many")
    api.ask("PATCH", f"dags/{dag}", {"is_paused": False})
    run = triggered(api, dag, count=0)
    assert run.startswith("manual__")
    until(lambda: api.get(f"dags/{dag}/dagRuns/{run}")["state"] in ("success", "failed"))

    [told] = list_runs(project)
    handle = {"dag": dag, "run": run}
    state = engine.state(handle)
    log = engine.log(handle, "waiting") + engine.log(handle, "charkha.finish")
    assert (told.status, state.status) == ("finished", "finished"), log
    assert state.tasks == dict.fromkeys(("numbers", "squared", "total", "waiting"), "finished")
    assert told.id[16:].startswith("manual__")  # behind the time, by which runs are sorted
    opening = open_board(project, told.id).opening()
    assert opening.graph.params == {
        "count": 0,
        "name": 'it\'s "so"; {{ run_id }}',
        "share": None,
    }
    assert told.output("waiting") == 0
    assert "waiting" in engine.log(handle, "waiting")


def test_a_new_version_of_a_dataset_starts_a_run_and_the_same_one_starts_no_other(
    root, airflow, tmp_path, capsys, monkeypatch
):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    file = root / "charkha.toml"
    settings = file.read_text().replace("[airflow]", "[airflow]\non_data = true")
    file.write_text(settings.replace('name = "tiny"', f'name = "{tmp_path.name}"'))
    [module] = root.glob("tiny_*.py")
    module.write_text(WATCHED)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    project = open_project(root)
    dag = project.airflow.dag
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("area\n1\n")
    second.write_text("area\n1\n2\n")
    assert main(["data", "add", str(first), "--name", "sales"]) == 0
    assert "no DAG of Airflow" in capsys.readouterr().err  # and the version is there all the same

    engine, api = AirflowEngine(project), AirflowApi(project)
    shutil.copy(rendered(root), airflow.dags / f"{dag}.py")
    until(lambda: engine._source(dag))
    api.ask("PATCH", f"dags/{dag}", {"is_paused": False})
    assert main(["data", "add", str(second), "--name", "sales"]) == 0
    assert "told Airflow of sales" in capsys.readouterr().err
    runs = until(lambda: api.get(f"dags/{dag}/dagRuns")["dag_runs"])
    assert [one["run_type"] for one in runs] == ["asset_triggered"]
    until(lambda: api.get(f"dags/{dag}/dagRuns")["dag_runs"][0]["state"] in ("success", "failed"))
    [told] = list_runs(project)
    assert (told.status, told.output("counted")) == ("finished", 2)

    assert main(["data", "announce"]) == 0
    assert "told of all that is here" in capsys.readouterr().out
    assert len(api.get(f"dags/{dag}/dagRuns")["dag_runs"]) == 1


def test_the_loop_looks_in_a_dag_of_its_own_and_finds_the_run_that_it_has_begun_on_airflow(
    root, airflow, marks
):
    file = root / "charkha.toml"
    settings = file.read_text().replace("[airflow]", '[airflow]\nloop = "0 3 1 1 *"')
    file.write_text(f'{settings}\n[loop]\nengine = "airflow"\nstrategy = "none"\n')
    project = open_project(root)
    api, dag = AirflowApi(project), project.airflow.dag
    (marks / "wait").touch()
    turn, params = "20261126T101500-ab12", {"name": "a turn's"}
    assert trainer_of(project).train(params, turn, lambda: False).goes_on
    wait_for(marks / "waiting", PATIENCE_S)
    [begun] = list_runs(project)
    submitting.keep(project, begun.id, "airflow", None)  # as who is killed before it has the answer
    assert trainer_of(project).train(params, turn, lambda: False).goes_on
    (marks / "wait").unlink()
    trained = until(lambda: over(trainer_of(project).train(params, turn, lambda: False)))
    assert trained.run == begun.id
    [run] = api.get(f"dags/{dag}/dagRuns")["dag_runs"]
    assert (run["dag_run_id"], run["state"]) == (begun.id, "success")

    loop = f"{dag}-loop"
    until(lambda: AirflowEngine(project)._source(loop))
    details = api.get(f"dags/{loop}/details")
    assert (details["max_active_runs"], details["catchup"]) == (1, False)
    api.ask("PATCH", f"dags/{loop}", {"is_paused": False})
    run = triggered(api, loop)
    until(lambda: api.get(f"dags/{loop}/dagRuns/{run}")["state"] in ("success", "failed"))
    handle = {"dag": loop, "run": run}
    assert api.get(f"dags/{loop}/dagRuns/{run}")["state"] == "success"
    assert "there is no champion" in AirflowEngine(project).log(handle, "loop")


def test_a_worker_that_is_killed_fails_the_run_and_a_cleared_task_finishes_it(root, marks):
    project = open_project(root)
    api = AirflowApi(project)
    (marks / "wait").touch()
    run = submitting.submit(project, "airflow")
    wait_for(marks / "waiting", PATIENCE_S)
    step = int((marks / "waiting").read_text())
    os.kill(parent_of(step), signal.SIGKILL)  # Airflow's process, whose child the step is
    told = submitting.follow(project, run)
    engine, handle = submitting._engine_of(project, run)
    assert (told.status, engine.state(handle).status) == ("failed", "failed")
    assert "'waiting'" in str(told.error)
    assert [(one.id, one.status) for one in list_runs(project)] == [(run, "failed")]
    os.kill(step, signal.SIGKILL)  # which nobody has told

    (marks / "wait").unlink()
    cleared = {"dag_run_id": run, "task_ids": ["waiting"], "include_downstream": True}
    again = {**cleared, "dry_run": False, "only_failed": True, "reset_dag_runs": True}
    api.ask("POST", f"dags/{handle['dag']}/clearTaskInstances", again)
    told = until(lambda: ended(project, run, "finished"))
    engine, handle = submitting._engine_of(project, run)
    assert until(lambda: engine.state(handle).status != "running")
    assert (told.status, engine.state(handle).status) == ("finished", "finished")
    assert told.steps["waiting"].how == "ran"
    assert told.error is None


def test_a_run_that_is_marked_failed_in_airflow_was_interrupted(root, marks):
    project = open_project(root)
    (marks / "wait").touch()
    run = submitting.submit(project, "airflow")
    wait_for(marks / "waiting", PATIENCE_S)
    engine, handle = submitting._engine_of(project, run)
    path = f"dags/{handle['dag']}/dagRuns/{run}"
    AirflowApi(project).ask("PATCH", path, {"state": "failed"})
    told = submitting.follow(project, run)
    assert (told.status, engine.state(handle).status) == ("interrupted", "interrupted")
    assert told.steps["waiting"].how == "interrupted"
    step = int((marks / "waiting").read_text())
    until(lambda: not Path(f"/proc/{step}").exists())  # Airflow has stopped it


def test_a_wrong_password_is_said_before_anything_is_written(root, airflow, tmp_path, capsys):
    (tmp_path / "wrong").write_text("guess")
    file = root / "charkha.toml"
    file.write_text(
        file.read_text().replace(f"{airflow.dags.parent}/password", f"{tmp_path}/wrong")
    )
    project = open_project(root)
    assert main(["run", "--on", "airflow"]) == 1
    assert f"Airflow at {airflow.url} does not let 'admin' in with this password" in (
        capsys.readouterr().err
    )
    assert not (airflow.dags / f"{project.airflow.dag}.py").exists()
    [told] = list_runs(project)
    assert told.status == "failed"
    assert "did not take it" in str(told.error)


def test_a_dag_that_airflow_does_not_have_is_asked_for_with_both_ways(root, airflow):
    file = root / "charkha.toml"
    file.write_text(file.read_text().replace(f'dags = "{airflow.dags}"\n', ""))
    project = open_project(root)
    with pytest.raises(BackendError, match="Airflow has no DAG") as refused:
        open_engine(project, "airflow").submit(planned(project), "20261126-000000")
    assert "charkha render airflow" in str(refused.value.fix)


def test_a_file_that_airflow_cannot_import_is_refused_with_what_python_says(root, airflow):
    project = open_project(root)
    there = airflow.dags / f"{project.airflow.dag}.py"
    there.write_text(rendered(root).read_text() + "\nimport no_such_pool\n")
    with pytest.raises(UserError, match="No module named 'no_such_pool'"):
        open_engine(project, "airflow").submit(planned(project), "20261126-000000")
    there.unlink()


def test_airflow_reads_the_golden_file(airflow, root):
    golden = ROOT / "tests" / "pipeline" / "engines" / "golden" / "airflow" / "houses.py"
    dag = f"golden-{os.getpid()}"
    text = golden.read_text().replace('"houses-prices"', f'"{dag}"')
    (airflow.dags / f"{dag}.py").write_text(text)
    engine = AirflowEngine(open_project(root))
    until(lambda: engine._source(dag) or engine._import_error(f"{dag}.py"))
    assert engine._import_error(f"{dag}.py") is None
    assert engine._source(dag) == text


def rendered(root):
    """Return the file that `charkha render airflow` writes."""
    assert main(["render", "airflow", "--out", str(root.parent / "out"), "--json"]) == 0
    [file] = (root.parent / "out" / "dags").iterdir()
    return file


def triggered(api, dag, **conf):
    """Start a run as a person does on Airflow's page; return Airflow's name for it."""
    made = api.ask("POST", f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
    return made["dag_run_id"]


def ended(project, run, status):
    told = read_run(run, project)
    return told if told.status == status else None


def over(trained):
    return None if trained.goes_on else trained


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
