import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import islice

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from charkha.ledger import open_ledger
from charkha.models import registration, tracker
from charkha.models.capture import mlflow_logs
from charkha.models.filling import fill
from charkha.models.following import Tracker, follow
from charkha.models.mlflow import MlflowRegistry
from charkha.models.mlflow_models import log_model
from charkha.models.mlflow_runs import MlflowRun
from charkha.models.packaged import folder_of
from charkha.models.recording import Judged, Opened, Recording
from charkha.models.registry import find_version, list_versions
from charkha.models.tracker import read_state
from charkha.pipeline.runs import open_artifacts


@pytest.fixture
def client(project):
    return MlflowClient(project.tracking.uri, project.tracking.uri)


def track(project, run):
    state = Tracker(project, run).work()
    assert state.error is None
    assert state.state == "done"
    return state


def test_a_run_is_in_mlflow_with_everything_that_the_journal_says(project, write_run, client):
    state = track(project, run := write_run())
    found = client.get_run(state.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == run
    assert found.data.params == {"alpha": "0.3", "kind": "ridge", "years": "[2006, 2007]"}
    assert found.data.metrics == {
        "rows": 8,
        "split.test": 2,
        "train.rmse": 0.5,
        "test.rmse": 2.0,
    }
    tags = found.data.tags
    assert tags["charkha.run"] == run
    assert tags["mlflow.source.git.commit"] == "4f2a" * 10
    assert tags["charkha.environment"] == "local"
    assert tags["charkha.host"] == "laptop"
    assert len(tags["charkha.step.fit.0"]) == 64
    [dataset] = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == (
        "ames",
        "md5:0123456789abcdef0123456789abcdef",
    )
    assert mlflow.data.get_source(dataset).uri.endswith("data/ames")
    files = {f.path for f in client.list_artifacts(state.run_id, "reports/prices")}
    assert files == {f"reports/prices/{name}" for name in ("card.md", "plots", "verdict.json")}


def test_the_first_version_is_champion_and_loads_with_mlflow_alone(project, write_run, client):
    state = track(project, run := write_run())
    assert [(v["version"], v["alias"]) for v in state.versions] == [(1, "champion")]
    model = mlflow.pyfunc.load_model("models:/prices@champion")
    rows = pd.DataFrame({"area": [3.0, 4.0], "rooms": [2, 3]})
    assert model.predict(rows).round(6).tolist() == [6.0, 8.0]
    assert "skops" in model.metadata.flavors["sklearn"]["serialization_format"]
    version = client.get_model_version("prices", "1")
    [kept] = project.state.glob("mlartifacts/**/artifacts/model.skops")
    package = folder_of(project, find_version(project, "prices@1"))
    assert kept.read_bytes() == (package / "model.skops").read_bytes()
    assert version.description.startswith("# prices")
    assert version.tags["charkha.run"] == run
    assert version.tags["charkha.gate"] == "passed"
    assert version.tags["charkha.judged_against"] == "champion:none"
    assert version.tags["charkha.data"] == "ames=md5:0123456789abcdef0123456789abcdef"


def test_the_same_package_again_is_the_same_version(project, write_run):
    track(project, write_run())
    state = track(project, write_run())
    assert [v["version"] for v in state.versions] == [1]
    assert len(list_versions(project)) == 1


def test_a_later_version_that_passes_is_challenger_and_a_refused_one_is_nothing(project, write_run):
    track(project, write_run())
    [champion] = list_versions(project)
    better = track(project, write_run(slope=3.0, against=champion.package))
    refused = track(project, write_run(slope=4.0, against=champion.package, passed=False))
    assert better.versions[0]["alias"] == "challenger"
    assert refused.versions[0]["alias"] is None
    assert list_versions(project)[2].tags["charkha.gate"] == "refused"


def test_a_verdict_from_before_another_became_champion_makes_no_challenger(project, write_run):
    track(project, write_run())
    state = track(project, write_run(slope=3.0, against="none"))
    assert state.versions[0]["alias"] is None
    assert "run again" in state.versions[0]["because"]


@pytest.mark.parametrize("lines", range(6))
def test_cut_off_after_any_line_and_started_again_it_leaves_no_duplicates(
    project, write_run, client, lines
):
    run = write_run()
    folder = project.state / "runs" / run

    def cut_off():
        yield from islice(follow(folder), lines)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(project, run, cut_off(), lambda **_: None)
    state = track(project, run)
    assert len(client.search_runs([state.experiment_id])) == 1
    history = client.get_metric_history(state.run_id, "test.rmse")
    assert len(history) == 1
    assert len(list_versions(project)) == 1
    assert len(client.search_logged_models([state.experiment_id])) == 1
    assert len(open_ledger(project).read("gate")) == 1


class CutOff(MlflowRegistry):
    """Ends after a number of calls, as a killed process would."""

    def __init__(self, uri, calls):
        super().__init__(uri)
        self.left = calls

    def _count(self):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1

    def versions(self, name=None):
        self._count()
        return super().versions(name)

    def add_version(self, *arguments):
        self._count()
        return super().add_version(*arguments)

    def move(self, *arguments):
        self._count()
        return super().move(*arguments)


class Hurried(MlflowRegistry):
    """Another machine registers the same between our look and our write."""

    def add_version(self, *arguments):
        super().add_version(*arguments)
        return super().add_version(*arguments)


@pytest.fixture
def register(project, write_run):
    """Return `register(registry)`, which registers one and the same package in one run."""
    run = write_run()
    recording = Recording(project, run, open_artifacts(project))
    filled = MlflowRun(project.tracking, recording.names)
    records = [r for line in follow(project.state / "runs" / run) for r in recording.hear(line)]
    for record in records:
        filled.write(record)
    opened = next(r for r in records if isinstance(r, Opened))
    judged = next(r for r in records if isinstance(r, Judged))

    def register(registry):
        return registration.register(
            project,
            registry,
            opened,
            judged,
            lambda: (log_model(project, filled, judged), filled.run_id),
        )

    return register


@pytest.mark.parametrize("calls", range(6))
def test_registration_cut_off_at_any_call_ends_the_same_when_tried_again(
    project, register, client, calls
):
    with pytest.raises(KeyboardInterrupt):
        register(CutOff(project.tracking.uri, calls))
    result = register(MlflowRegistry(project.tracking.uri))
    assert (result.version, result.alias) == (1, "champion")
    assert [(v.version, v.aliases) for v in list_versions(project)] == [(1, ("champion",))]
    experiment = client.get_experiment_by_name(project.tracking.experiment)
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


def test_two_machines_that_register_the_same_package_leave_one_version(project, register):
    result = register(Hurried(project.tracking.uri))
    assert [v.version for v in list_versions(project)] == [result.version] == [1]


def test_a_run_that_was_killed_is_killed_in_mlflow_too(project, write_run, client):
    state = track(project, write_run(status=None))
    found = client.get_run(state.run_id)
    assert found.info.status == "KILLED"
    assert found.data.tags["charkha.status"] == "crashed"


def test_what_a_step_logged_is_in_the_same_run_under_names_that_do_not_clash(
    project, write_run, client, tmp_path
):
    with mlflow_logs(project, "r", "fit[0]", store := tmp_path / "store"):
        mlflow.log_param("alpha", 0.3)  # as the pipeline's
        mlflow.log_param("kind", "lasso")  # not as the pipeline's
        for step, loss in enumerate([3.0, 2.0]):
            mlflow.log_metric("loss", loss, step=step)
        mlflow.log_metric("rows", 7)  # another step has one
        mlflow.set_tag("author", "ann")
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("loss", 1.0, step=2)
            mlflow.log_param("kind", "elastic")
    for _ in range(2):  # the same again changes nothing
        state = track(project, write_run(captured=store))
    found = client.get_run(state.run_id)
    params = found.data.params
    assert (params["alpha"], params["kind"], params["fit.0/kind"]) == ("0.3", "ridge", "lasso")
    assert params["fit.0/child/kind"] == "elastic"
    assert found.data.metrics["rows"] == 8
    assert found.data.metrics["fit.0/rows"] == 7
    points = client.get_metric_history(state.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(0, 3.0), (1, 2.0)]
    assert found.data.metrics["fit.0/child/loss"] == 1.0
    assert found.data.tags["author"] == "ann"
    assert found.data.tags["mlflow.user"] == "ann"
    assert [f.path for f in client.list_artifacts(state.run_id, "notes")] == ["notes/hello.txt"]


def test_started_in_the_background_it_finishes_alone_and_a_second_one_stands_back(
    project, write_run
):
    run = write_run()
    assert tracker.start(project, run)
    assert tracker.start(project, run) is None
    assert tracker.is_tracked(project, run)
    assert tracker.pending(project) == []  # somebody is at it
    state = tracker.wait(project, run, timeout_s=120)
    log = (project.state / "runs" / run / "tracker.log").read_text()
    assert (state.state, state.error) == ("done", None), log
    assert state.versions[0]["alias"] == "champion"
    assert not (project.state / "tracking" / run).exists()


def test_a_tracker_that_was_killed_is_waiting_and_pending(project, write_run):
    run = write_run()
    pid = tracker.start(project, run)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert tracker.wait(project, run).state == "waiting"
    assert tracker.pending(project) == [run]


def test_the_state_is_read_without_importing_mlflow(project, write_run):
    assert read_state(project, write_run()).state == "recording"


def test_the_steps_are_a_file_that_says_how_each_ended(project, write_run, client):
    state = track(project, write_run())
    path = client.download_artifacts(state.run_id, "steps.json")
    with open(path) as file:
        steps = json.load(file)
    assert steps["fit[0]"]["how"] == "ran"


def test_no_database_of_mlflow_is_written_by_a_reader(project, write_run):
    track(project, write_run())
    path = project.state / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        before = database.execute("PRAGMA data_version").fetchone()
        list_versions(project)
        assert database.execute("PRAGMA data_version").fetchone() == before


def test_what_trying_again_cannot_mend_is_failed_and_stands_behind_what_waits(
    project, write_run, client
):
    state = track(project, write_run())
    client.delete_experiment(state.experiment_id)
    failed, waiting = write_run(), write_run()
    for run in (failed, waiting):
        os.makedirs(project.state / "tracking", exist_ok=True)
        (project.state / "tracking" / run).touch()
    reached = Tracker(project, failed).work()
    assert reached.state == "failed"
    assert "mlflow experiments restore" in reached.error
    assert tracker.pending(project) == [waiting, failed]


def test_a_damaged_package_is_failed_with_the_blob_in_the_reason(project, write_run):
    run = write_run()
    for blob in (project.state / "blobs").glob("*/*"):
        blob.write_bytes(b"other bytes")
    reached = Tracker(project, run).work()
    assert reached.state == "failed"
    assert "holds other bytes" in reached.error


def test_a_library_that_is_missing_is_waited_for_with_the_line_that_brings_it(tmp_path):
    """In an interpreter that finds nothing of MLflow."""
    (tmp_path / "charkha.toml").write_text('[project]\nname = "bare"\n')
    (tmp_path / "pipeline.py").write_text(
        "from charkha import pipeline, step\n\n@step\ndef one() -> int:\n    return 1\n\n"
        "@pipeline\ndef main():\n    one()\n"
    )
    code = (
        "import sys\nsys.modules['mlflow'] = None\n"
        "from charkha.pipeline.run import run\nfrom charkha.models import following\n"
        "print(following.main(['.', run().id]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "1"
    (kept,) = tmp_path.glob(".charkha/runs/*/mlflow.json")
    told = json.loads(kept.read_text())
    assert told["state"] == "waiting"
    assert told["error"] == "mlflow is not installed (pip install 'charkha[mlflow]')"
