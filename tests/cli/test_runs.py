"""`charkha runs` and `charkha why RUN`: what they show, and what they answer to a slip of the fingers."""

import json
import os
import time

import pytest

from charkha.cli.main import main
from charkha.errors import DONE, USAGE, YOU
from charkha.events import RunFinished, RunStarted, StepFinished, StepStarted
from charkha.pipeline.journal import Journal, Line, as_bytes
from charkha.pipeline.runs import run_ids
from charkha.project import open_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project):
    """Write a run of the steps split and fit, as the engine does; return its id."""
    journal = Journal(project / ".charkha" / "runs")
    journal(
        RunStarted(
            run=journal.run,
            project="prices",
            pipeline="pipeline:main",
            environment="local",
            params={"alpha": 0.3, "kind": "ridge", "deep": True, "years": [2006, 2007]},
            steps=["split", "fit"],
            datasets={},
            commit=None,
            dirty=False,
            user="ann",
            host="laptop",
            pid=1,
        )
    )
    for step in ("split", "fit"):
        journal(StepStarted(step, 1, []))
        journal(StepFinished(step, f"pipeline:{step}", "ran", "k" * 64, {}, {}, 0.5))
    journal(RunFinished("finished", 1.0))
    journal.close()
    return journal.run


def said(capsys, *words, code=DONE):
    assert main(list(words)) == code
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "says", "fix"),
    [
        (["runs", "nope"], "no run 'nope'", "list the runs: charkha runs"),
        (["why", "nope"], "nothing here is called 'nope': looked at 1 run", "there are: "),
        (["why", "lst/fit"], "no run 'lst'", "did you mean 'last'?"),
        (["why", "last/fitt"], "has no step 'fitt'", "did you mean 'fit'?"),
        (["why", "last/predict"], "has no step 'predict'", "its steps are: split, fit"),
    ],
)
def test_a_name_that_is_not_there_is_the_users_to_mend(run, capsys, words, says, fix):
    told = said(capsys, *words, code=YOU).err
    assert says in told
    assert f"→ {fix}" in told


def test_an_id_with_a_slip_in_it_is_answered_with_the_right_one(run, capsys):
    wrong = f"{run[:5]}x{run[6:]}"
    assert f"did you mean '{run}'?" in said(capsys, "runs", wrong, code=YOU).err


@pytest.mark.parametrize("command", ["why", "runs"])
def test_the_last_run_where_there_is_none_says_how_to_get_one(project, capsys, command):
    assert said(capsys, command, "last", code=YOU).err == "error: no run yet\n  → charkha run\n"


def test_a_folder_without_a_journal_is_no_run(run, project, capsys):
    (project / ".charkha" / "runs" / "99999999-000000-000-0000").mkdir()
    assert said(capsys, "why", "last").out.startswith(f"run {run}")


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_that_shows_nothing_is_a_wrong_command_line(run, capsys, limit):
    told = said(capsys, "runs", "--limit", limit, code=USAGE)
    assert f"--limit: '{limit}' is not a whole number from 1 on" in told.err
    assert told.out == ""


def test_parameters_are_shown_as_they_are_typed(run, capsys):
    out = said(capsys, "runs", run).out
    assert "params    alpha=0.3, kind=ridge, deep=true, years=[2006, 2007]\n" in out


def test_runs_are_told_newest_first_whatever_an_engine_calls_them(run, project, capsys):
    runs, now = project / ".charkha" / "runs", time.time()
    for id, at in (("zz-before", now - 3600), ("00-after", now + 60)):
        (runs / id).mkdir()
        line = Line(at, RunFinished("finished", 1.0))
        (runs / id / "journal.jsonl").write_bytes(as_bytes(line) + b"\n")
    told = json.loads(said(capsys, "runs", "--json").out)
    assert [one["run"] for one in told] == ["00-after", run, "zz-before"]
    assert said(capsys, "runs", "last").out.startswith("00-after")
    (runs / "aa-taken").mkdir()
    (runs / "aa-taken" / "engine.json").write_text(
        "{}"
    )  # which an engine has, and nobody has ended
    os.utime(runs / "aa-taken" / "engine.json", (now + 30, now + 30))
    assert run_ids(open_project(project)) == ["zz-before", run, "aa-taken", "00-after"]


def test_an_id_that_somebody_gave_to_a_run_on_an_engine_does_not_say_when_it_began(
    run, project, capsys
):
    given = "20010101-000000-000-aaaa"
    folder = project / ".charkha" / "runs" / given
    folder.mkdir()
    line = Line(time.time() + 60, RunFinished("finished", 1.0))
    (folder / "journal.jsonl").write_bytes(as_bytes(line) + b"\n")
    (folder / "engine.json").write_text("{}")
    assert said(capsys, "runs", "last").out.startswith(given)
