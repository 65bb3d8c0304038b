import json
import os
import socket
import sys
from importlib import metadata

import pytest

from charkha.cli import doctor
from charkha.cli.main import main
from charkha.errors import DONE, YOU


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for number, (key, value) in enumerate([("name", "Ada"), ("email", "ada@example.org")]):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", f"user.{key}")
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "charkha.toml").write_text("")
    return tmp_path


def findings(environment=None):
    return {finding.name: finding for finding in doctor.examine(environment)}


def test_where_nothing_is_missing_it_is_0(project, capsys):
    assert main(["doctor"]) == DONE
    told = capsys.readouterr().out
    assert "✓ project" in told
    assert "as Ada <ada@example.org>" in told
    assert "✗" not in told


def test_outside_of_a_project_it_looks_at_the_machine_alone(project, capsys):
    (project / "charkha.toml").unlink()
    assert main(["doctor"]) == DONE
    assert "- project" in capsys.readouterr().out


def test_json_has_every_finding_with_its_repair(project, capsys):
    (project / "charkha.toml").write_text("[servng]\n")
    assert main(["doctor", "--json"]) == YOU
    told = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert told["python"]["state"] == "fine"
    assert told["project"]["state"] == "missing"
    assert told["project"]["fix"] == "did you mean 'serving'?"


def test_an_author_that_git_does_not_know_is_missing(project, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_VALUE_1", "")
    assert findings()["git"].state == "missing"
    assert "git config --global user.email" in findings()["git"].fix


def test_git_that_is_not_there_is_missing(project, monkeypatch):
    monkeypatch.setenv("PATH", str(project))
    assert findings()["git"].state == "missing"


def test_every_extra_of_our_own_metadata_is_looked_at(project):
    extras = set(metadata.metadata("charkha").get_all("Provides-Extra"))
    assert extras - {"test", "check", "local"} <= findings().keys()


@pytest.mark.parametrize(
    ("toml", "state"), [("", "absent"), ("[blobs]\nurl = 's3://bucket'\n", "missing")]
)
def test_an_extra_is_missing_only_where_the_project_needs_it(project, monkeypatch, toml, state):
    (project / "charkha.toml").write_text(toml)
    there = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "boto3" and there(name))
    found = next(f for f in doctor._extras(s3=bool(toml)) if f.name == "s3")
    assert found.state == state
    assert found.fix == ("pip install 'charkha[s3]'" if toml else None)


def test_a_library_of_the_local_extra_is_always_needed(project, monkeypatch):
    there = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "dvc" and there(name))
    assert findings()["dvc"].fix == "pip install 'charkha[dvc]'"


def test_several_missing_parts_of_the_local_extra_are_told_at_once(project, monkeypatch):
    there = doctor._installed
    lost = {"dvc", "pandera"}
    monkeypatch.setattr(doctor, "_installed", lambda name: name not in lost and there(name))
    found = findings()
    assert found["dvc"].fix == found["checks"].fix == "pip install 'charkha[local]'"


def test_a_tracking_server_that_does_not_answer_is_missing(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a refused connection
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        (project / "charkha.toml").write_text(f"[tracking]\nuri = '{uri}'\n")
        found = findings()["tracking"]
    assert found.state == "missing"
    assert "does not answer" in found.says


def test_a_ledger_that_lets_nobody_in_is_missing_and_the_password_is_not_told(
    project, postgresql, monkeypatch
):
    (project / "charkha.toml").write_text("[ledger]\nurl = 'env:LEDGER'\n")
    assert findings()["ledger"].fix == "export LEDGER=…"
    monkeypatch.setenv("LEDGER", postgresql.url("postgres", password="hunter2"))  # noqa: S106
    found = findings()["ledger"]
    assert (found.state, found.fix) == (
        "missing",
        "correct the password that [ledger] url refers to",
    )
    assert "hunter2" not in found.says
    monkeypatch.setenv("LEDGER", postgresql.make_database())
    found = findings()["ledger"]
    assert (found.state, postgresql.password in found.says) == ("fine", False)
    assert "has 0 decisions" in found.says


def test_where_the_ledger_is_postgresql_its_driver_is_needed(project, monkeypatch):
    there = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "psycopg" and there(name))
    assert findings()["postgresql"].state == "absent"
    (project / "charkha.toml").write_text("[ledger]\nurl = 'postgresql://127.0.0.1:1/none'\n")
    assert findings()["postgresql"].fix == "pip install 'charkha[postgresql]'"


def test_blobs_that_cannot_be_written_are_missing(project):
    (project / "blocked").write_text("a file, where a folder should be")
    (project / "charkha.toml").write_text("[blobs]\nurl = 'blocked'\n")
    found = findings()["blobs"]
    assert found.state == "missing"
    assert found.fix


def test_looking_leaves_no_blob(project):
    findings()
    left = [os.path.join(f, n) for f, _, names in os.walk(project / ".charkha") for n in names]
    assert left == []


def test_a_password_in_the_tracking_address_is_not_shown():
    shown = doctor._without_password("postgresql://me:hunter2@db/mlflow")
    assert shown == "postgresql://…@db/mlflow"


def test_a_platform_without_inotify_is_told_what_to_declare(project, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    found = findings()["observing"]
    assert found.state == "absent"
    assert "File" in found.fix
