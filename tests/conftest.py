"""What tests of several rooms stand on: servers on loopback, and what is made once for all workers."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.request import urlopen

import boto3
import psycopg
import pytest

_names = count()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return `once(name, make)`: a folder that the first worker to ask for it has `make` fill.

    The others wait for that, and find it as it was left: it is to be copied from.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # which all workers of a run share

    def once(name, make):
        folder, done = root / f"once-{name}", root / f"once-{name}.done"
        with (root / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one who failed at it
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tables(once):
    """A database with the tables that MLflow makes, which takes it seconds; to be copied."""

    def make(folder):
        from charkha.models.mlflow import MlflowRegistry  # late, for it brings MLflow

        with warnings.catch_warnings(), contextlib.chdir(folder):  # where MLflow wants its mlruns/
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own affairs
            MlflowRegistry(f"sqlite:///{folder}/mlflow.db").versions()

    return once("tables", make) / "mlflow.db"


@pytest.fixture(scope="session")
def with_tables(tables):
    """Return `with_tables(project)`: the project, whose MLflow has its tables and nothing in them."""

    def with_tables(project):
        project.state.mkdir()
        shutil.copyfile(tables, project.state / "mlflow.db")
        return project

    return with_tables


@dataclass(frozen=True, kw_only=True)
class S3:
    endpoint_url: str
    access_key: str = "charkha"
    secret_key: str = "not-a-secret"  # noqa: S105
    page_keys: int = 50  # that a listing brings; AWS's 1,000 would take a minute to exceed

    def make_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"bucket-{os.getpid()}-{next(_names)}"
        self.client.create_bucket(Bucket=name)
        return name

    @property
    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )


@pytest.fixture(scope="session")
def s3():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": str(S3.page_keys)},
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(f"{endpoint}/moto-api/", server)
        yield S3(endpoint_url=endpoint)
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(url, server, timeout_s=60):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    raise RuntimeError(f"moto_server does not answer at {url}")


class PostgreSQL:
    """A server with a cluster of its own, in which every database is new."""

    user, password = "charkha", "not-a-secret"

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        root = os.geteuid() == 0  # as which PostgreSQL refuses to run
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if root else {}
        self.folder = Path(tempfile.mkdtemp(prefix="charkha-postgresql-"))
        (self.folder / "password").write_text(self.password)
        if root:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        self._process = None
        self._do(
            *("initdb", "--pgdata", "data", "--username", self.user, "--pwfile", "password"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )
        self.start()

    def start(self):
        """Start the server and wait until it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # nobody cuts the power of a test
            "shared_buffers": "16MB",
        }
        given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_found("postgres"), "-D", "data", *given],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                alive = self._process.poll() is None and time.monotonic() < until
                assert alive, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self):
        """Stop the server at once, whoever is connected; it recovers when it starts again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def url(self, database, **other):
        """Return the address of a database; `user`, `password` and `port` may be others."""
        user, password = (other.get(name, getattr(self, name)) for name in ("user", "password"))
        return f"postgresql://{user}:{password}@127.0.0.1:{other.get('port', self.port)}/{database}"

    def make_database(self):
        """Make an empty database; return its address."""
        name = f"database_{next(_names)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, database, statement):
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def _do(self, program, *words):
        command = [_found(program), *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **self._as)
        assert done.returncode == 0, done.stderr


def _found(program):
    """Return the path of a program of PostgreSQL; Debian has them beside the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    return shutil.which(program) or next(map(str, debian), None)


@pytest.fixture(scope="session")
def postgresql():
    if _found("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = PostgreSQL()
    yield server
    server.stop()
    shutil.rmtree(server.folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Return the address of an empty database, of each kind that a ledger can be."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server = request.getfixturevalue("postgresql")
    server.execute("postgres", "DROP SCHEMA public CASCADE")
    server.execute("postgres", "CREATE SCHEMA public")
    return server.url("postgres")


def pytest_collection_modifyitems(items):
    """Begin with the pages of the docs: a minute or two each, and nobody else left at the end."""
    items.sort(key=lambda item: "test_docs.py" not in item.nodeid)
