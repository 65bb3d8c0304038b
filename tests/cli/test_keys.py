"""`charkha keys` as it is typed."""

import json

import pytest

from charkha.cli.main import main
from charkha.serving.keys import Keys, read_keys


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "houses"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *arguments, code=0):
    assert main(["keys", *arguments]) == code
    return capsys.readouterr()


def test_a_key_is_printed_once_and_opens_the_projects_model(project, capsys):
    told = said(capsys, "add", "shop")
    key = told.out.strip()
    [kept] = read_keys(project / ".charkha" / "keys.json")
    assert Keys(project / ".charkha" / "keys.json").allowed({b"x-api-key": key.encode()}, "houses")
    assert kept.id in told.err
    assert "only time" in told.err
    listed = said(capsys, "list").out
    assert kept.id in listed
    assert key not in listed


def test_what_a_key_opens_can_be_said(capsys):
    told = said(
        capsys,
        *("add", "shop", "--model", "houses", "--model", "flats", "--scope", "predict"),
        *("--scope", "feedback", "--expires", "2999-01-31", "--json"),
    )
    made = json.loads(told.out)
    assert made["models"] == ["houses", "flats"]
    assert made["scopes"] == ["predict", "feedback"]
    assert made["expires"] == "2999-01-31T00:00:00Z"
    assert made["key"].startswith("charkha_")
    [listed] = json.loads(said(capsys, "list", "--json").out)
    assert listed == {name: value for name, value in made.items() if name != "key"}


def test_a_revoked_key_stays_in_the_list_as_revoked(capsys):
    made = json.loads(said(capsys, "add", "shop", "--json").out)
    assert made["id"] in said(capsys, "revoke", "shop").out
    assert "revoked" in said(capsys, "list").out
    assert "charkha keys list" in said(capsys, "revoke", "shop", code=1).err


def test_a_list_of_none_says_how_to_make_one(capsys):
    assert "charkha keys add NAME" in said(capsys, "list").out


def test_a_wrong_scope_is_a_wrong_command_line(capsys):
    assert "feedback" in said(capsys, "add", "shop", "--scope", "everything", code=2).err


def test_a_time_that_is_none_is_answered_with_one(project, capsys):
    assert "--expires 90d" in said(capsys, "add", "shop", "--expires", "soon", code=1).err
    assert not (project / ".charkha").exists()


def test_the_file_is_where_the_project_says(project, capsys):
    (project / "charkha.toml").write_text('[serving]\nkeys = "secrets/keys.json"\n')
    said(capsys, "add", "shop")
    assert (project / "secrets" / "keys.json").is_file()
