import os
import subprocess
import sys

import mlflow
import pytest

from charkha.models.capture import mlflow_logs
from charkha.models.mlflow_captured import read_captured


@pytest.fixture
def capture(project, tmp_path):
    def enter(name):
        return mlflow_logs(project, "run", "step", tmp_path / name)

    return enter


def runs(folder):
    return list(read_captured(folder))


def test_what_is_logged_lies_in_the_folder_and_nowhere_else(capture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with capture("a"):
        mlflow.log_metric("loss", 0.5, step=3)
        mlflow.log_dict({"a": 1}, "d.json")
    [logged] = runs(tmp_path / "a")
    assert [(p.name, p.value, p.step) for p in logged.points] == [("loss", 0.5, 3)]
    assert [path.name for path, _ in logged.files] == ["d.json"]
    assert not (tmp_path / "mlruns").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_two_steps_in_one_process_do_not_see_each_other(capture, tmp_path):
    with capture("a"):
        mlflow.set_experiment("mine")
        mlflow.start_run(run_name="left open")
        mlflow.log_param("p", 1)
    assert mlflow.active_run() is None
    with capture("b"):
        mlflow.log_param("p", 2)
    assert [r.params for r in runs(tmp_path / "a")] == [{"p": "1"}]
    assert [r.params for r in runs(tmp_path / "b")] == [{"p": "2"}]


def test_nothing_logged_leaves_no_folder(capture, tmp_path):
    with capture("a"):
        mlflow.get_experiment_by_name("whatever")  # makes a store
    with capture("b"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir() if p.name in ("a", "b")) == []


def test_a_server_and_a_run_that_were_set_before_are_set_again_afterwards(
    capture, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    own = (tmp_path / "own").as_uri()
    mlflow.set_tracking_uri(own)
    with mlflow.start_run() as outer:
        with capture("a"):
            mlflow.log_metric("inner", 1)
            mlflow.set_tracking_uri("http://127.0.0.1:9")  # a step's own idea
        mlflow.log_metric("outer", 1)
        assert mlflow.active_run().info.run_id == outer.info.run_id
        assert mlflow.get_tracking_uri() == own
    assert [p.name for r in runs(tmp_path / "a") for p in r.points] == ["inner"]
    assert mlflow.get_run(outer.info.run_id).data.metrics == {"outer": 1}
    mlflow.set_tracking_uri(None)


def test_the_environment_is_as_before_also_after_an_error(capture, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "from-the-scheduler")
    before = dict(os.environ)
    with pytest.raises(TypeError), capture("a"):
        mlflow.log_metric("a")
    assert dict(os.environ) == before


def test_autologging_that_a_step_switched_on_is_off_in_the_next(capture, tmp_path):
    from sklearn.linear_model import LinearRegression

    with capture("a"):
        mlflow.sklearn.autolog(log_models=False, silent=True)
        LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    with capture("b"):
        LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    assert "fit_intercept" in runs(tmp_path / "a")[0].params
    assert not (tmp_path / "b").exists()


def test_what_is_logged_without_waiting_is_there_too(capture, tmp_path):
    with capture("a"):
        mlflow.log_metric("late", 1, synchronous=False)
    assert [p.name for r in runs(tmp_path / "a") for p in r.points] == ["late"]


def test_it_works_when_the_step_is_the_first_to_import_mlflow_and_not_before(project, tmp_path):
    code = f"""
import sys, pathlib
from charkha.project import default_project
from charkha.models.capture import mlflow_logs
project = default_project(pathlib.Path({str(project.root)!r}))
with mlflow_logs(project, "r", "s", pathlib.Path({str(tmp_path / "none")!r})):
    pass
assert "mlflow" not in sys.modules
with mlflow_logs(project, "r", "s", pathlib.Path({str(tmp_path / "first")!r})):
    import mlflow
    mlflow.log_param("p", 1)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert [r.params for r in runs(tmp_path / "first")] == [{"p": "1"}]


def test_a_model_that_a_step_logged_is_among_its_files(capture, tmp_path):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    with capture("a"):
        mlflow.sklearn.log_model(model, name="line", pip_requirements=["scikit-learn"])
    [logged] = runs(tmp_path / "a")
    [(folder, where)] = logged.files
    assert (folder / "MLmodel").exists()
    assert where.startswith("models/m-")
