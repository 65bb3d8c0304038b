import json

import pytest

from charkha.cli.main import main
from charkha.models.following import Tracker
from charkha.models.registry import list_versions


@pytest.fixture
def registered(project, write_run, monkeypatch):
    """Version 1 is champion, 2 challenger, 3 refused."""
    Tracker(project, write_run()).work()
    [first] = list_versions(project)
    Tracker(project, write_run(slope=3.0, against=first.package)).work()
    Tracker(project, write_run(slope=4.0, against=first.package, passed=False)).work()
    monkeypatch.chdir(project.root)
    return project


def said(capsys, *arguments, code=0):
    assert main(["models", *arguments]) == code
    return capsys.readouterr()


def test_the_list_has_versions_newest_first_with_alias_gate_and_scores(registered, capsys):
    lines = said(capsys, "list").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["3", "2", "1"]
    assert "refused" in lines[1]
    assert "challenger" in lines[2]
    assert "rmse 2" in lines[3]
    assert "ames@01234567" in lines[3]
    listed = json.loads(said(capsys, "list", "prices", "--json").out)
    assert [version["version"] for version in listed] == [1, 2, 3]


def test_a_list_of_nothing_says_how_to_get_something(project, capsys, monkeypatch):
    monkeypatch.chdir(project.root)
    assert "charkha run" in said(capsys, "list").out


def test_a_wrong_name_is_answered_with_the_right_one(registered, capsys):
    assert "did you mean 'prices'?" in said(capsys, "list", "prises", code=1).err
    assert "did you mean 'prices'?" in said(capsys, "rollback", "prises", code=1).err


def test_a_version_is_shown_with_its_card_data_and_parameters(registered, capsys):
    out = said(capsys, "show", "prices@champion").out
    assert "prices@1  champion" in out
    assert "slope 2.0" in out
    assert "ames=md5:" in out
    assert "alpha=0.3" in out
    shown = json.loads(said(capsys, "show", "prices@2", "--json").out)
    assert shown["signature"]["input area"] == "double"
    assert shown["version"]["aliases"] == ["challenger"]


def test_a_diff_names_scores_and_lines_of_the_card(registered, capsys):
    out = said(capsys, "diff", "prices@1", "prices@2").out
    assert "test.rmse 2 → 3 (+1)" in out
    assert "+slope 3.0" in out
    assert "params" not in out
    assert "nothing differs" in said(capsys, "diff", "prices@1", "prices@1").out
    found = json.loads(said(capsys, "diff", "prices@1", "prices@2", "--json").out)
    assert found["metrics"] == [{"name": "test.rmse", "before": 2.0, "after": 3.0}]


def test_scores_are_written_alike_by_every_command(project, write_run, capsys, monkeypatch):
    for slope in (24_123.987, 0.000123456):
        Tracker(project, write_run(slope=slope)).work()
    monkeypatch.chdir(project.root)
    lines = said(capsys, "list").out.splitlines()
    assert "rmse 0.0001235" in lines[1]
    assert "rmse 24,124" in lines[2]
    out = said(capsys, "diff", "prices@1", "prices@2").out
    assert "test.rmse 24,124 → 0.0001235 (-24,124)" in out


def test_a_diff_without_the_package_says_what_it_could_not_compare(registered, capsys):
    for blob in (registered.state / "blobs").glob("*/*"):
        blob.unlink()
    found = said(capsys, "diff", "prices@1", "prices@2")
    assert "test.rmse" in found.out
    assert "is not compared" in found.err


def test_promotion_and_rollback_say_what_they_did(registered, capsys):
    out = said(capsys, "promote", "prices@challenger", "--because", "better").out
    assert out == "prices@2 is the champion, instead of prices@1\n"
    again = said(capsys, "promote", "prices@2")
    assert again == ("prices@2 is the champion already: nothing changed\n", "")
    moved = json.loads(said(capsys, "rollback", "prices", "--json").out)
    assert (moved["champion"]["version"], moved["changed"]) == (1, True)
    assert "no previous version" in said(capsys, "rollback", "prices", code=1).err


def test_what_the_gate_refused_is_promoted_only_by_force_and_with_a_reason(registered, capsys):
    assert "the gate refused prices@3" in said(capsys, "promote", "prices@3", code=1).err
    assert '--because "…"' in said(capsys, "promote", "prices@3", "--force", code=1).err
    said(capsys, "promote", "prices@3", "--force", "--because", "an emergency")


@pytest.mark.parametrize("action", ["list", "show", "diff", "promote", "rollback"])
def test_every_action_has_help_with_an_example(action, capsys):
    assert f"charkha models {action}" in said(capsys, action, "--help").out.partition("example:")[2]
