from pathlib import Path

import pytest

from charkha.errors import ProjectError, UserError
from charkha.monitoring.windows import size_of
from charkha.project import (
    BlobSettings,
    GateSettings,
    default_project,
    open_project,
    read_secret,
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
        ("[[gate]]\nmetric='mae'\nat_most=1\n[[gate]]\nmetrik='r2'\n", 5, "'metrik'", "'metric'"),
        ("[[gates]]\nmetric='mae'\n", 1, "no section [gates]", "'gate'"),
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
        ('[pipeline]\nworkers = "2"\n', 2, 'workers is a whole number, not the text "2"'),
        ("[pipeline]\nworkers = true\n", 2, "workers is a whole number, not true"),
        ("[pipeline]\nworkers = [2]\n", 2, "workers is a whole number, not a list"),
        ("[serving]\nhost = 2010-01-01\n", 2, "host is text, not the date 2010-01-01"),
        ("[serving]\nhost = ''\n", 2, "host is empty"),
        ("[pipeline]\nentry = ' '\n", 2, "entry is empty"),
        ("[model]\ntarget = ''\n", 2, "target is empty"),
        ("[pipeline]\nschedule = 'each day of the week'\n", 2, "is no schedule"),
        ("[pipeline]\nschedule = '0 3 * *'\n", 2, "is no schedule"),
        ("[pipeline]\ntimezone = 'Europe/Berln'\n", 2, 'timezone = "Europe/Berlin"'),
        ("[airflow]\nloop = 'often'\n", 2, "is no schedule"),
        ("[pipeline]\nworkers = 0\n", 2, "workers is at least 1, not 0"),
        ("[pipeline.params]\nday = 2010-01-01\n", 2, "JSON knows no date"),
        ("[serving]\nport = 70000\n", 2, "port is at most 65535, not 70000"),
        ("[project]\nallow_pickle = 1\n", 2, "allow_pickle is true or false, not the number 1"),
        ("[project]\nname = 'a/b'\n", 2, "'a/b' is no name"),
        ("[model]\ntask = 'regresion'\n", 2, "task is never 'regresion'"),
        ("[[gate]]\nat_most = 1\n", 1, "[gate] needs metric"),
        ("[[gate]]\nmetric = 'rmse'\n", 2, "lets every model pass"),
        ("[[gate]]\nmetric = 'rmse'\nat_most = 1\nby = 2\n", 4, "than what?"),
        ("[gate]\nmetric = 'rmse'\n", 1, "gate is a list"),
        ("serving = 3\n", 1, "serving is a section, not the number 3"),
        ("env = 3\n", 1, "env is a section"),
        ("[serving]\nport = \n", 2, "not TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(define, text, line, says):
    error = refusal(define(text))
    assert error.where == f"charkha.toml:{line}"
    assert says in str(error)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('[pipeline]\nworkers = "2"\n', "workers = 2"),
        ('[pipeline]\nworkers = "two"\n', "workers = 1"),
        ("[model]\nname = 2009\n", 'name = "2009"'),
        ('[project]\nallow_pickle = "True"\n', "allow_pickle = true"),
        ("[pipeline]\nparams = 3\n", "[pipeline.params]"),
        ('[loop]\nevery_s = "5min"\n', "every_s = 300"),
        ('[[trigger]]\non = "drift"\ncool_down_s = "1.5d"\n', "cool_down_s = 129600"),
    ],
)
def test_a_value_of_another_type_comes_with_a_line_that_would_do(define, text, fix):
    assert refusal(define(text)).fix == fix


@pytest.mark.parametrize("text", ["secret_key = 4711\n", "url = ['s3://me:4711@x']\n"])
def test_a_secret_of_the_wrong_type_is_not_repeated(define, text):
    assert "4711" not in str(refusal(define(f"[blobs]\n{text}")))


@pytest.mark.parametrize(
    ("text", "line", "key", "fix"),
    [
        ("\nentry = 'x.py'\n", 2, "entry", "write it below [pipeline]"),
        ("name = 'x'\n", 1, "name", "write it below [project] or [model]"),
        ("at_most = 2\n", 1, "at_most", "write it below [[gate]]"),
        ("target = ['x']\n", 1, "target", "write it below [model]"),
        ("enrty = 'x'\n", 1, "enrty", "did you mean 'entry', below [pipeline]?"),
        ("qqq = 2\n", 1, "qqq", "write it below one of: project, pipeline,"),
        ("[env.prod]\nport = 2\n", 2, "port", "write it below [env.prod.serving]"),
    ],
)
def test_a_key_outside_of_its_section_is_told_where_it_belongs(define, text, line, key, fix):
    error = refusal(define(text))
    assert error.where == f"charkha.toml:{line}"
    assert f"{key!r} stands outside of its section" in str(error)
    assert (error.fix or "").startswith(fix)


def test_a_key_of_another_section_is_told_where_it_belongs(define):
    error = refusal(define("[env.model.model]\nname = 'x'\nat_most = 2\n"))
    assert (error.where, error.fix) == ("charkha.toml:3", "write it below [[env.model.gate]]")


@pytest.mark.parametrize(
    ("rule", "line", "says", "fix"),
    [
        ("metric = 'rsme'\nat_most = 1", 2, "no metric is called 'rsme'", "did you mean 'rmse'?"),
        ("metric = 'RMSE'\nat_most = 1", 2, "no metric is called 'RMSE'", "did you mean 'rmse'?"),
        ("metric = 'profit'\nat_least = 1", 2, "no metric is called", "use one of: mae, mse"),
        ("metric = 'rmse'\nat_least = 1", 3, "at_least would refuse good", "at_most = 1"),
        ("metric = 'r2'\nat_most = 0.9", 3, "at_most would refuse good", "at_least = 0.9"),
        ("metric = 'rmse'\nat_most = nan", 3, "at_most is nan", "give it a number"),
        ("metric = 'r2'\nat_least = -inf", 3, "at_least is -inf", "give it a number"),
    ],
)
def test_a_gate_that_could_not_judge_is_refused(define, rule, line, says, fix):
    error = refusal(define(f"[[gate]]\n{rule}\n"))
    assert error.where == f"charkha.toml:{line}"
    assert says in str(error)
    assert (error.fix or "").startswith(fix)


@pytest.mark.parametrize(
    ("uri", "fix"),
    [
        ("mlruns", "sqlite:///.charkha/mlflow.db"),
        ("/srv/mlruns", "sqlite:///.charkha/mlflow.db"),
        ("state/mlflow.db", "sqlite:///state/mlflow.db"),
        ("sqlite:mlflow.db", "sqlite:///mlflow.db"),
        ("localhost:5000", "http://localhost:5000"),
    ],
)
def test_a_tracking_address_without_a_scheme_is_refused(define, uri, fix):
    error = refusal(define(f"[tracking]\nuri = '{uri}'\n"))
    assert error.where == "charkha.toml:2"
    assert "no scheme" in str(error)
    assert error.fix == f'uri = "{fix}"'


def test_a_store_of_blobs_that_nobody_offers_is_refused(define):
    error = refusal(define("[blobs]\nurl = 'gs://bucket/x'\n"))
    assert error.where == "charkha.toml:2"
    assert "no store of blobs speaks gs://" in str(error)


def test_a_store_of_blobs_that_somebody_else_offers_is_taken(define, tmp_path, monkeypatch):
    (tmp_path / "gcs-1.dist-info").mkdir()
    (tmp_path / "gcs-1.dist-info" / "METADATA").write_text("Name: gcs\nVersion: 1\n")
    offer = "[charkha.blobs]\ngs = gcs:Blobs\n"
    (tmp_path / "gcs-1.dist-info" / "entry_points.txt").write_text(offer)
    monkeypatch.syspath_prepend(tmp_path)
    project = open_project(define("[blobs]\nurl = 'gs://bucket/x'\n"))
    assert project.blobs.url == "gs://bucket/x"


@pytest.mark.parametrize("folder", ["/", "..", "../data", "data/../.."])
def test_a_data_folder_outside_of_the_project_is_refused(define, folder):
    error = refusal(define(f"[data]\nfolder = '{folder}'\n"))
    assert error.where == "charkha.toml:2"
    assert "outside of the project" in str(error)
    assert error.fix == 'folder = "data"'


def test_a_data_folder_may_be_a_link_or_be_reached_by_one(define, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "by").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "charkha.toml").write_text(f"[data]\nfolder = '{tmp_path}/by/tables'\n")
    assert open_project(tmp_path / "root").data.folder == tmp_path / "by" / "tables"
    (tmp_path / "root" / "charkha.toml").write_text("[data]\nfolder = 'data'\n")
    assert open_project(tmp_path / "root").data.folder == tmp_path / "root" / "data"


def test_a_file_with_a_byte_order_mark_is_read_with_the_same_lines(tmp_path):
    (tmp_path / "charkha.toml").write_text("[project]\nname = 'a'\n", encoding="utf-8-sig")
    assert open_project(tmp_path).name == "a"
    (tmp_path / "charkha.toml").write_text("[serving]\nprot = 1\n", encoding="utf-8-sig")
    assert refusal(tmp_path).where == "charkha.toml:2"


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


def test_a_secret_that_is_not_there_is_told_with_the_setting_that_wants_it(define, monkeypatch):
    root = define(
        "[blobs]\nurl = 's3://b/p'\naccess_key = 'env:KEY'\n[env.prod.blobs]\nsecret_key = 'file:k'\n"
    )
    with pytest.raises(ProjectError) as wanted:
        read_secret(open_project(root), "blobs", "access_key")
    assert wanted.value.where == "charkha.toml:3"
    assert "KEY is not set, and [blobs] access_key wants it" in str(wanted.value)
    assert wanted.value.fix == "export KEY=…"
    with pytest.raises(ProjectError) as wanted:
        read_secret(open_project(root, "prod"), "blobs", "secret_key")
    assert wanted.value.where == "charkha.toml:5"
    monkeypatch.setenv("KEY", "id")
    assert read_secret(open_project(root), "blobs", "access_key") == "id"
    assert read_secret(open_project(root), "blobs", "secret_key") is None


def test_a_tracking_address_may_be_a_reference_as_a_whole(define, monkeypatch):
    root = define("[tracking]\nuri = 'env:MLFLOW'\n")
    monkeypatch.setenv("MLFLOW", "postgresql://me:pw@db/mlflow")
    assert open_project(root).tracking.uri == "postgresql://me:pw@db/mlflow"


def test_a_tracking_address_that_is_not_there_is_told_with_its_line(define, monkeypatch):
    root = define("[tracking]\nexperiment = 'x'\n[env.prod.tracking]\nuri = 'env:MLFLOW'\n")
    error = refusal(root, "prod")
    assert error.where == "charkha.toml:4"
    assert "MLFLOW is not set, and [tracking] uri wants it" in str(error)
    assert error.fix == "export MLFLOW=…"
    monkeypatch.setenv("MLFLOW", "me:hunter2@db/mlflow")
    error = refusal(root, "prod")
    assert error.where == "charkha.toml:4"
    assert "no scheme" in str(error)
    assert "hunter2" not in str(error)


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


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        (
            "[release]\nadmin = 'localhost:8001'",
            "admin is asked over HTTP",
            "http://127.0.0.1:8001",
        ),
        ("[release]\nserver = 'https://:80'", "server is asked over HTTP", "http://127.0.0.1:8000"),
        ("[monitoring]\nwindow = '7days'", "'7days' is no size of a window", '"6h"'),
        ("[monitoring]\nwindow = '0'", "'0' is no size of a window", '"6h"'),
        (
            "[ledger]\nurl = 'postgresql+asyncpg://host/db'",
            "a database of PostgreSQL",
            "postgresql:",
        ),
    ],
)
def test_what_could_not_be_used_later_is_refused_with_its_line(define, text, says, fix):
    error = refusal(define(f"{text}\n"))
    assert error.where == "charkha.toml:2"
    assert says in str(error)
    assert fix in (error.fix or "")


@pytest.mark.parametrize("window", ["1000", "1_000", "10,000", " 6 h ", "1w", "30min"])
def test_a_window_is_taken_as_it_is_read(define, window):
    assert size_of(open_project(define(f"[monitoring]\nwindow = '{window}'\n")).monitoring.window)


def test_a_secret_that_is_no_text_is_told(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it is no text"):
        resolve_secret(f"file:{tmp_path}/key")
