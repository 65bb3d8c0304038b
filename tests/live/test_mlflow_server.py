"""A real MLflow server on loopback: away, there, and asked over its REST API."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings

import httpx
import mlflow
import pandas as pd
import pytest

from charkha.cli.main import main
from charkha.models import tracker
from charkha.models.aliasing import Move
from charkha.models.champion import Champion
from charkha.models.mlflow import MlflowRegistry
from charkha.models.registries.contract import RegistryContract
from charkha.models.registries.rest import RestRegistry
from charkha.models.registry import find_version
from charkha.project import open_project

PIPELINE = """
import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

from charkha import pipeline, register, step


@step
def rows() -> pd.DataFrame:
    return pd.DataFrame({"area": [float(n) for n in range(1, 41)], "price": range(3, 123, 3)})


@step
def fit(rows: pd.DataFrame) -> LinearRegression:
    model = LinearRegression().fit(rows[["area"]], rows["price"])
    mlflow.log_metric("slope", model.coef_[0])
    return model


@pipeline
def prices():
    table = rows()
    register(fit(table), test=table, train=table, target="price")
"""


class Server:
    """An MLflow server that can be stopped and started again on the same port."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._process = folder, None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.2)

    def stop(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it and its workers: our own session
            self._process.wait()
            self._process = None

    def _answers(self):
        try:
            return httpx.get(f"{self.uri}/health").is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _vendors_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's and the converters' own affairs
        yield


@pytest.fixture
def project(tmp_path, server, monkeypatch):
    (tmp_path / "charkha.toml").write_text(
        f'[project]\nname = "prices"\n[tracking]\nuri = "{server.uri}"\n'
    )
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return open_project(tmp_path)


def test_a_run_without_the_server_is_whole_and_is_brought_in_when_the_server_is_back(
    project, server, capsys
):
    server.stop()
    assert main(["run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "finished"
    run = told["run"]
    waiting = tracker.wait(project, run, timeout_s=120)
    assert waiting.state == "waiting"
    assert "does not answer" in waiting.error
    assert tracker.pending(project) == [run]

    server.start()
    assert main(["runs", "sync"]) == 0
    done = tracker.read_state(project, run)
    assert (done.state, done.error) == ("done", None)
    assert tracker.pending(project) == []
    version = find_version(project, "prices@champion")
    assert (version.version, version.tags["charkha.run"]) == (1, run)

    mlflow.set_tracking_uri(server.uri)
    mlflow.set_registry_uri(server.uri)
    found = mlflow.get_run(done.run_id)
    assert found.data.metrics["slope"] == pytest.approx(3)
    model = mlflow.pyfunc.load_model("models:/prices@champion")
    assert model.predict(pd.DataFrame({"area": [4.0]}))[0] == pytest.approx(12)

    candidate = Champion("prices").bind(project)
    assert candidate.fingerprint({"package": "n" * 64}) == f"champion:{version.package}"
    server.stop()
    later = Champion("prices").bind(project)
    assert later.fingerprint({"package": "n" * 64}) == f"champion:{version.package}"


@pytest.fixture(scope="module")
def filled(tmp_path_factory, tables):
    """The address of a server with the two models of the contract."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copyfile(tables, folder / "mlflow.db")
    server = Server(folder)
    try:
        server.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fill(MlflowRegistry(server.uri))
        yield server.uri
    finally:
        server.stop()


def fill(registry):
    client = registry._client
    for name, versions in (("prices", 4), ("rents", 1)):
        client.create_registered_model(name)
        for number in range(1, versions + 1):
            tags = {"charkha.package": f"{number}" * 64, "charkha.gate": "passed"}
            client.create_model_version(name, f"s3://models/{name}/{number}", tags=tags)
    client.delete_model_version("prices", "2")
    registry.move("prices", [Move("champion", 3), Move("previous", 1), Move("tallest", 3)])


class TestRest(RegistryContract):
    @pytest.fixture
    def registry(self, filled):
        return RestRegistry(filled)
