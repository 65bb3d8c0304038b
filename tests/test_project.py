from pathlib import Path

import pytest

from charkha.errors import ProjectError, UserError
from charkha.project import (
    BlobSettings,
    GateSettings,
    default_project,
    open_project,
    resolve_secret,
)


@pytest.fixture
def define(tmp_path):
    def write(text):
        (tmp_path / "charkha.toml").write_text(text)
        return tmp_path

    return write


def refusal(root, environment=None):
    with pytest.raises(ProjectError) as caught:
        open_project(root, environment)
    return caught.value


def test_an_empty_file_is_a_project_with_everything_by_default(define):
    root = define("")
    project = open_project(root)
    assert project == default_project(root)
    assert project.name == project.model.name == project.tracking.experiment == root.name
    assert project.environment == "local"
    assert project.tracking.uri == f"sqlite:///{root}/.charkha/mlflow.db"
    assert project.blobs == BlobSettings(url=f"{root}/.charkha/blobs")
    assert project.data.folder == root / "data"
    assert project.state == root / ".charkha"


def test_the_project_is_found_from_a_folder_below(define):
    root = define('[project]\nname = "wheel"\n')
    (root / "data" / "raw").mkdir(parents=True)
    assert open_project(root / "data" / "raw").root == root


def test_without_a_file_the_error_says_how_to_get_one(tmp_path):
    error = refusal(tmp_path)
    assert "no charkha.toml" in str(error)
    assert "charkha init" in (error.fix or "")


def test_an_environment_overrides_key_by_key_and_replaces_the_gate(define):
    root = define(
        """
[pipeline.params]
alpha = 0.3
year = 2009
[[gate]]
metric = "rmse"
at_most = 30_000
[env.prod.pipeline.params]
alpha = 1.0
[env.prod.tracking]
uri = "http://mlflow:5000"
[[env.prod.gate]]
metric = "rmse"
better_than = "champion"
by = 100
"""
    )
    local, prod = open_project(root), open_project(root, "prod")
    assert local.pipeline.params == {"alpha": 0.3, "year": 2009}
    assert prod.pipeline.params == {"alpha": 1.0, "year": 2009}
    assert prod.tracking.uri == "http://mlflow:5000"
    assert local.gate == (GateSettings(metric="rmse", at_most=30_000),)
    assert prod.gate == (GateSettings(metric="rmse", better_than="champion", by=100.0),)


def test_the_environment_comes_from_the_argument_then_from_charkha_env(define, monkeypatch):
    root = define("[env.prod.serving]\nport = 1\n[env.staging.serving]\nport = 2\n")
    monkeypatch.setenv("CHARKHA_ENV", "staging")
    assert open_project(root).serving.port == 2
    assert open_project(root, "prod").serving.port == 1
    monkeypatch.delenv("CHARKHA_ENV")
    assert open_project(root).serving.port == 8000


def test_an_environment_that_nobody_defined_is_refused(define):
    error = refusal(define("[env.prod.serving]\nport = 1\n"), "production")
    assert "env.production" in str(error)
    assert error.fix == "use one of: local, prod"


@pytest.mark.parametrize(
    ("text", "line", "says", "fix"),
    [
        ("[project]\nname = 'a'\n\n[trackng]\n", 4, "no section [trackng]", "'tracking'"),
        ("[serving]\nport = 1\nhots = 'x'\n", 3, "no key 'hots'", "'host'"),
        ("serving.prot = 1\n", 1, "no key 'prot'", "'port'"),
        ("[serving]\n[env.prod]\n[env.prod.serving]\nprot = 1\n", 4, "no key 'prot'", "'port'"),
        ("[env.prod.servng]\nport = 1\n", 1, "no section [servng]", "'serving'"),
        ("[[gate]]\nmetric='a'\nat_most=1\n[[gate]]\nmetrik='b'\n", 5, "'metrik'", "'metric'"),
        ("[pipeline]\nqqq = 1\n", 2, "no key 'qqq'", "known: entry, params, workers"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_what_was_meant(define, text, line, says, fix):
    error = refusal(define(text))
    assert error.where == f"charkha.toml:{line}"
    assert says in str(error)
    assert fix in (error.fix or "")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[pipeline]\nworkers = "2"\n', 2, "workers is a whole number, not text"),
        ("[pipeline]\nworkers = true\n", 2, "workers is a whole number, not true or false"),
        ("[pipeline]\nworkers = 0\n", 2, "workers is at least 1, not 0"),
        ("[pipeline.params]\nday = 2010-01-01\n", 2, "JSON knows no date"),
        ("[serving]\nport = 70000\n", 2, "port is at most 65535, not 70000"),
        ("[project]\nallow_pickle = 1\n", 2, "allow_pickle is true or false, not a whole number"),
        ("[project]\nname = 'a/b'\n", 2, "'a/b' is no name"),
        ("[model]\ntask = 'regresion'\n", 2, "task is never 'regresion'"),
        ("[[gate]]\nat_most = 1\n", 1, "[gate] needs metric"),
        ("[[gate]]\nmetric = 'rmse'\n", 2, "lets every model pass"),
        ("[[gate]]\nmetric = 'rmse'\nat_most = 1\nby = 2\n", 4, "than what?"),
        ("[gate]\nmetric = 'rmse'\n", 1, "gate is a list"),
        ("serving = 3\n", 1, "serving is a section, not a whole number"),
        ("env = 3\n", 1, "env is a section"),
        ("[serving]\nport = \n", 2, "not TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(define, text, line, says):
    error = refusal(define(text))
    assert error.where == f"charkha.toml:{line}"
    assert says in str(error)


def test_an_environment_that_is_not_in_use_is_checked_too(define):
    assert refusal(define("[env.prod.serving]\nport = 'x'\n")).where == "charkha.toml:2"


@pytest.mark.parametrize(
    "text",
    [
        "[blobs]\nsecret_key = 'hunter2'\n",
        "[blobs]\nsecret_key = 'env:'\n",
        "[tracking]\nuri = 'postgresql://me:hunter2@db/mlflow'\n",
        "[blobs]\nurl = 's3://key:hunter2@bucket/x'\n",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(define, text):
    error = refusal(define(text))
    assert error.where == "charkha.toml:2"
    assert "never stands in this file" in str(error)
    assert "hunter2" not in str(error)


def test_a_secret_is_read_when_it_is_needed(define, monkeypatch):
    root = define("[blobs]\naccess_key = 'env:KEY'\nsecret_key = 'file:secrets/key'\n")
    project = open_project(root)
    assert project.blobs.access_key == "env:KEY"
    with pytest.raises(UserError, match="KEY is not set"):
        resolve_secret("env:KEY")
    with pytest.raises(UserError, match="cannot be read"):
        resolve_secret(project.blobs.secret_key or "")
    (root / "secrets").mkdir()
    (root / "secrets" / "key").write_text("s3cret\n")
    monkeypatch.setenv("KEY", "id")
    monkeypatch.chdir("/")
    assert resolve_secret(project.blobs.access_key) == "id"
    assert resolve_secret(project.blobs.secret_key or "") == "s3cret"


def test_a_tracking_address_may_be_a_reference_as_a_whole(define, monkeypatch):
    root = define("[tracking]\nuri = 'env:MLFLOW'\n")
    monkeypatch.setenv("MLFLOW", "postgresql://me:pw@db/mlflow")
    assert open_project(root).tracking.uri == "postgresql://me:pw@db/mlflow"


def test_a_relative_path_starts_at_the_projects_root(define):
    root = define(
        """
[data]
folder = "tables"
remote = "../remote"
[blobs]
url = "s3://bucket/prefix"
[tracking]
uri = "sqlite:///state/mlflow.db"
artifacts = "/var/lib/mlflow"
"""
    )
    project = open_project(root)
    assert project.data.folder == root / "tables"
    assert project.data.remote == str(root / "../remote")
    assert project.blobs.url == "s3://bucket/prefix"
    assert project.tracking.uri == f"sqlite:///{root}/state/mlflow.db"
    assert project.tracking.artifacts == "/var/lib/mlflow"


def test_a_default_project_needs_no_file(tmp_path):
    assert default_project(tmp_path).root == Path(tmp_path).resolve()
    assert not list(tmp_path.iterdir())
