import os
import socket
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from charkha.errors import BackendError, Unavailable, UserError
from charkha.models.aliasing import Move
from charkha.models.mlflow import MlflowRegistry
from charkha.models.registries.contract import RegistryContract
from charkha.models.registries.port import SignInNeeded
from charkha.models.registries.postgresql import PostgresqlRegistry
from charkha.models.registries.process import ProcessRegistry
from charkha.models.registries.rest import RestRegistry
from charkha.models.registries.sqlite import SqliteRegistry
from charkha.models.registry import (
    find_version,
    keep_snapshot,
    list_versions,
    parse_reference,
    snapshot,
)


@pytest.fixture
def filled(project):
    """Two models, one with a version that was deleted and aliases on two others."""
    fill(MlflowRegistry(project.tracking.uri))
    return project


def fill(registry):
    client = registry._client
    for name, versions in (("prices", 4), ("rents", 1)):
        client.create_registered_model(name)
        for number in range(1, versions + 1):
            tags = {"charkha.package": f"{number}" * 64, "charkha.gate": "passed"}
            client.create_model_version(name, f"s3://models/{name}/{number}", tags=tags)
    client.delete_model_version("prices", "2")
    registry.move("prices", [Move("champion", 3), Move("previous", 1), Move("tallest", 3)])


class TestSqlite(RegistryContract):
    @pytest.fixture
    def registry(self, filled):
        return SqliteRegistry(filled.tracking.uri)

    def test_a_database_that_is_not_there_has_no_versions(self, tmp_path):
        assert SqliteRegistry(f"sqlite:///{tmp_path}/none.db").versions() == []
        assert not (tmp_path / "none.db").exists()

    def test_a_database_without_tables_has_no_versions(self, tmp_path):
        (tmp_path / "new.db").touch()
        assert SqliteRegistry(f"sqlite:///{tmp_path}/new.db").versions() == []

    def test_another_file_in_its_place_is_named(self, tmp_path):
        (tmp_path / "no.db").write_text("no database" * 100)
        with pytest.raises(Unavailable, match=r"no\.db is not MLflow's database"):
            SqliteRegistry(f"sqlite:///{tmp_path}/no.db").versions()


@pytest.fixture(scope="module")
def in_postgresql(postgresql):
    """The address of MLflow's database in PostgreSQL, with the two models."""
    url = postgresql.make_database()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill(MlflowRegistry(url))
    return url


class TestPostgresql(RegistryContract):
    @pytest.fixture
    def registry(self, in_postgresql):
        return PostgresqlRegistry(in_postgresql)

    def test_the_drivers_name_in_the_address_changes_nothing(self, in_postgresql):
        named = in_postgresql.replace("postgresql:", "postgresql+psycopg:")
        assert len(PostgresqlRegistry(named).versions()) == 4

    def test_a_database_without_tables_has_no_versions(self, postgresql):
        assert PostgresqlRegistry(postgresql.make_database()).versions() == []

    @pytest.mark.parametrize("wrong", [{"password": "hunter2"}, {"port": 1}])
    def test_who_does_not_let_us_in_is_unavailable_and_no_password_is_told(self, postgresql, wrong):
        url = postgresql.url("postgres", **wrong)
        with pytest.raises(Unavailable, match="does not answer") as caught:
            PostgresqlRegistry(url).versions()
        assert str(wrong.get("port", postgresql.port)) in str(caught.value)
        for password in ("hunter2", postgresql.password):
            assert password not in str(caught.value)

    def test_it_is_read_without_mlflow_and_without_sqlalchemy(self, project, in_postgresql):
        (project.root / "charkha.toml").write_text('[tracking]\nuri = "env:MLFLOW"\n')
        assert loaded(project, MLFLOW=in_postgresql) == 0


class TestMlflowItself(RegistryContract):
    @pytest.fixture
    def registry(self, filled):
        return MlflowRegistry(filled.tracking.uri)


class TestProcess(RegistryContract):
    @pytest.fixture
    def registry(self, filled):
        return ProcessRegistry(filled.tracking.uri)

    def test_what_a_library_below_says_is_passed_on(self):
        with pytest.raises(BackendError, match="unsupported URI"):
            ProcessRegistry("nosuch://host/db").versions()


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("prices", 3),
        ("prices@champion", 3),
        ("prices@previous", 1),
        ("prices@4", 4),
        ("models:/prices@champion", 3),
        ("models:/prices/4", 4),
    ],
)
def test_a_version_is_found_by_number_alias_or_as_champion(filled, reference, version):
    assert find_version(filled, reference).version == version


def test_a_wrong_name_is_told_with_the_nearest_one(filled):
    with pytest.raises(UserError, match="did you mean 'prices'"):
        find_version(filled, "prises")


def test_a_version_that_is_not_there_is_told_with_those_that_are(filled):
    with pytest.raises(UserError, match="no version 2") as caught:
        find_version(filled, "prices@2")
    assert caught.value.fix == "use one of: champion, previous, tallest, 4, 3, 1"


def test_without_any_model_the_way_to_one_is_told(project):
    with pytest.raises(UserError, match="none is registered yet"):
        find_version(project, "prices")


def test_no_reference_at_all_is_told_how_to_write_one():
    with pytest.raises(UserError, match="names no model version"):
        parse_reference("prices@@3")


def test_a_snapshot_comes_back_as_it_was_kept(filled):
    assert snapshot(filled, "prices") is None
    versions = list_versions(filled, "prices")
    keep_snapshot(filled, "prices", versions)
    assert snapshot(filled, "prices") == versions


def test_reading_the_registry_loads_neither_mlflow_nor_sqlalchemy(filled):
    assert loaded(filled) == 0


def loaded(project, **variables):
    """Return 1 where looking up versions imports what takes seconds."""
    code = (
        "import sys; from charkha.project import open_project;"
        "from charkha.models.registry import list_versions;"
        f"assert list_versions(open_project(__import__('pathlib').Path({str(project.root)!r})));"
        "sys.exit(bool({'mlflow', 'sqlalchemy', 'pandas', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables})
    return done.returncode


class Refusing(BaseHTTPRequestHandler):
    """A tracking server that wants credentials."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"error_code": "UNAUTHENTICATED", "message": "who are you?"}')

    def log_message(self, *said):
        pass


def test_a_server_that_wants_credentials_is_asked_again_through_mlflow_which_has_them(project):
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(SignInNeeded):
            RestRegistry(uri).versions()
        away = replace(project, tracking=replace(project.tracking, uri=uri))
        with pytest.raises(BackendError, match="wants credentials") as caught:
            list_versions(away)
        server.shutdown()
    assert "MLFLOW_TRACKING_USERNAME" in caught.value.fix


def test_a_server_that_is_not_there_is_unavailable_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="does not answer"):
        RestRegistry(f"http://127.0.0.1:{port}").versions()
