"""What `[serving]` of charkha.toml takes, and what it says of what it does not take."""

import pytest

from charkha.errors import ProjectError
from charkha.project import default_project, open_project, read_secret


def opened(folder, text):
    (folder / "charkha.toml").write_text(f"[serving]\n{text}\n")
    return open_project(folder)


def test_by_default_a_server_is_for_this_machine_and_limits_what_it_takes(tmp_path):
    settings = default_project(tmp_path).serving
    assert (settings.host, settings.workers, settings.auth) == ("127.0.0.1", 1, "auto")
    assert (settings.body_mb, settings.rows, settings.requests) == (32, 100_000, 1024)
    assert settings.keys == tmp_path / ".charkha" / "keys.json"
    assert settings.admin_port is settings.admin_token is settings.otlp_endpoint is None
    assert settings.access_log == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("workers = 0", "workers is at least 1"),
        ("body_mb = 0", "body_mb is at least 1"),
        ("rows = 0", "rows is at least 1"),
        ("requests = 0", "requests is at least 1"),
        ("batch_rows = 0", "batch_rows is at least 1"),
        ("timeout_s = 0", "timeout_s is at least 0.01"),
        ("drain_s = -1", "drain_s is at least 0"),
        ("follow_s = -1", "follow_s is at least 0"),
        ("admin_port = 70000", "admin_port is at most 65535"),
        ("access_log = 1.5", "access_log is at most 1"),
        ("trace_share = -0.5", "trace_share is at least 0"),
        ("auth = 'on'", "auth is never 'on'"),
        ("log = 'xml'", "log is never 'xml'"),
        ("admin_token = 'hunter2'", "admin_token is a secret"),
        ("otlp_endpoint = '127.0.0.1:4317'", "the collector is asked over HTTP"),
        ("otlp_endpoint = 'http://me:pw@collector'", "has a password in it"),
        ("admin_port = 8000", "a port of its own"),
        ("admin_port = 9000\nport = 9000", "a port of its own"),
    ],
)
def test_a_wrong_setting_is_told_with_its_line(tmp_path, line, told):
    with pytest.raises(ProjectError) as refused:
        opened(tmp_path, line)
    assert told in str(refused.value)
    assert refused.value.where == "charkha.toml:2"
    assert "hunter2" not in str(refused.value)


def test_the_ports_may_both_be_any_that_is_free(tmp_path):
    settings = opened(tmp_path, "port = 0\nadmin_port = 0").serving
    assert (settings.port, settings.admin_port) == (0, 0)


def test_the_administrations_token_is_read_where_it_is_needed(tmp_path, monkeypatch):
    project = opened(tmp_path, "admin_token = 'env:ADMIN_TOKEN'")
    monkeypatch.setenv("ADMIN_TOKEN", "hunter2")
    assert read_secret(project, "serving", "admin_token") == "hunter2"
