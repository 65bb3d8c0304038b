"""The contract of engines on a Ray of two nodes on loopback, and what is particular to Ray."""

import contextlib
import os
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
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.engines.contract import EngineContract

RAY = Path(sys.executable).with_name("ray")
SOURCES = Path(charkha.__file__).parent.parent
NODES = ({"cpus": 2, "gpus": 0}, {"cpus": 1, "gpus": 1})  # the second one's GPU is pretended
OWN = ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=80000000"]


@pytest.fixture(scope="session")
def address():
    """Return the address of a Ray of two nodes, each a raylet of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = f"127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # the names of its sockets have to be short
    nodes = []
    try:
        for number, has in enumerate(NODES):
            head = ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
            where = [*head, f"--temp-dir={folder}"] if number == 0 else [f"--address={found}"]
            words = [*where, f"--num-cpus={has['cpus']}", f"--num-gpus={has['gpus']}", *OWN]
            nodes.append(started(words, folder / f"node{number}.log"))
        yield found
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            node.wait(30)
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
    """Start a node, and return when it says that it runs."""
    with log.open("wb") as out:
        node = subprocess.Popen(
            [RAY, "start", "--block", "--node-ip-address=127.0.0.1", *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES), "RAY_USAGE_STATS_ENABLED": "0"},
        )
    until = time.monotonic() + 120
    while "--block" not in log.read_text():
        assert node.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return node


class TestRay(EngineContract):
    name = "ray"
    patience_s = 120.0

    @pytest.fixture
    def settings(self, address, tmp_path, schema):
        shutil.copyfile(schema, tmp_path / "mlflow.db")
        return (
            f'[tracking]\nuri = "sqlite:///{tmp_path}/mlflow.db"\n'
            f'[ray]\naddress = "{address}"\n'
            f'[ray.runtime_env.env_vars]\nCHARKHA_TEST_MARKS = "{tmp_path / "marks"}"\n'
        )
