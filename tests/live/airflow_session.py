"""The Airflow of a test session: the fixtures that start and share it, and a pipeline for it."""

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

import charkha

ROOT = Path(__file__).parent.parent.parent
OWN = ROOT / ".venv" / "airflow" / "bin"
BINARIES = OWN if (OWN / "airflow").exists() else None
PATIENCE_S = 600  # its API server imports for minutes where others use the processors
AIRFLOW = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        BINARIES is None, reason="Airflow is not installed in .venv/airflow: make .venv/.airflow"
    ),
]
SOURCES = Path(charkha.__file__).parent.parent

TINY = '''
"""A fan-out over what a step returned, which may be nothing, and a step that takes its time."""

import os
import time
from pathlib import Path

from charkha import pipeline, step

MARKS = Path(os.environ["CHARKHA_TEST_MARKS"])


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def squared(number: int) -> int:
    return number * number


@step(timeout_s=3600)
def total(squares: list, name: str) -> int:
    return sum(squares)


@step
def waiting(total: int) -> int:
    (MARKS / "waiting").write_text(str(os.getpid()))
    while (MARKS / "wait").exists():
        time.sleep(0.1)
    return total


@pipeline
def tiny(count: int = 2, name: str = "it's \\"so\\"; {{ run_id }}", share: float | None = None) -> None:
    waiting(total(squared.each(number=numbers(count))(), name))
'''


class Server:
    """The Airflow of this session."""

    def __init__(self, folder, port):
        self.dags, self.url = folder / "dags", f"http://127.0.0.1:{port}"
        self.password = "not-a-secret"  # noqa: S105
        self._password = folder / "password"
        self._password.write_text(self.password)

    def settings(self, tmp_path, **more):
        """Return lines of charkha.toml, for a DAG that nobody else has."""
        given = {
            "url": self.url,
            "password": f"file:{self._password}",
            "dags": str(self.dags),
            "dag": f"dag-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}",
            "python": sys.executable,
            "patience_s": PATIENCE_S,
            **more,
        }
        variables = {"CHARKHA_TEST_MARKS": str(tmp_path / "marks"), "PYTHONPATH": str(SOURCES)}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        lines += ["[airflow.variables]", *(f'{k} = "{v}"' for k, v in variables.items())]
        return "\n".join(["[airflow]", *lines, ""])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers share
    folder /= "airflow"
    folder.mkdir(exist_ok=True)
    alive = os.open(folder / "alive", os.O_RDWR | os.O_CREAT)
    starting = os.open(folder / "starting", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(alive, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            start(folder)
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield Server(folder, int((folder / "ready").read_text()))
    finally:
        os.close(alive)
        os.close(starting)


def start(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("airflow_server.py"))]
    log = (str(folder / "guard.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.posix_spawn(  # nobody waits for it: it ends after us
        sys.executable,
        [*command, str(folder), str(BINARIES), str(port)],
        os.environ,
        setsid=True,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, *log), (os.POSIX_SPAWN_DUP2, 1, 2)],
    )
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                break
        except OSError:
            time.sleep(0.5)
    else:
        logs = [f"{log.name}:\n{log.read_text()[-2000:]}" for log in folder.glob("*.log")]
        raise AssertionError("\n".join(["Airflow does not come up", *logs]))
    (folder / "ready").write_text(str(port))


@pytest.fixture
def marks(tmp_path, monkeypatch):
    made = tmp_path / "marks"
    made.mkdir()
    monkeypatch.setenv("CHARKHA_TEST_MARKS", str(made))
    return made


def until(true, patience_s=PATIENCE_S):
    """Wait until something is true; return it."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.5)
    return found
