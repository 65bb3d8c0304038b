"""Servers that several live tests have in common."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from .airflow_session import airflow, marks
from .sagemaker_server import Sagemaker

__all__ = ["airflow", "marks"]


@pytest.fixture(scope="session")
def sagemaker(s3):
    """A SageMaker on loopback whose jobs are really run."""
    server = Sagemaker(s3.endpoint_url)
    yield server
    server.stop()


@pytest.fixture
def mlflow_uri(tables, tmp_path):
    """The address of an MLflow server with nothing in it, which keeps the artifacts itself."""
    folder = tmp_path / "mlflow-server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(tables.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    try:
        uri, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not answers(f"{uri}/health"):
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def answers(url):
    try:
        with urlopen(url, timeout=5):  # noqa: S310
            return True
    except (URLError, OSError):
        return False
