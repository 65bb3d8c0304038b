"""What is told of a run whose tasks somebody else starts: begun, ended, gone on with, given up."""

import os
import signal

import pytest

from charkha.cli.main import main
from charkha.errors import DONE, YOU, CharkhaError, StepFailed
from charkha.pipeline import submitting, tasks
from charkha.pipeline.boards import open_board
from charkha.pipeline.runs import list_runs, read_run
from charkha.project import open_project

PIPELINE = """
from pathlib import Path

from charkha import pipeline, step


@step
def first() -> int:
    return 1


@step
def second(first: int, plus: int) -> int:
    if not Path(__file__).with_name("mended").exists():
        raise ConnectionError("the database is down")
    return first + plus


@pipeline
def both(plus: int = 1) -> None:
    second(first(), plus=plus)
"""


@pytest.fixture
def project(tmp_path):
    name = f"elsewhere_{os.getpid()}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
    toml = f'[project]\nname = "both"\n[pipeline]\nentry = "{name}.py"\n'
    (tmp_path / "charkha.toml").write_text(toml + '[env.prod.blobs]\nurl = "elsewhere"\n')
    (tmp_path / f"{name}.py").write_text(PIPELINE)
    return open_project(tmp_path)


def failed(project, run):
    """Begin a run whose second step fails, and end it."""
    tasks.begin(project, run, {}, engine="shell")
    tasks.perform(project, run, ["first"])
    with pytest.raises(StepFailed):
        tasks.perform(project, run, ["second"], attempt=1)
    return tasks.conclude(project, run)


def test_a_run_that_failed_goes_on_when_a_step_of_it_runs_again_and_ends_anew(project):
    assert failed(project, "night").status == "failed"
    assert "the database is down" in str(read_run("night", project).error)
    (project.root / "mended").touch()
    tasks.perform(project, "night", ["second"], attempt=2)
    submitting.keep(project, "night", "shell", None)
    assert read_run("night", project).status == "running"
    told = tasks.conclude(project, "night")
    assert (told.status, told.error, told.steps["second"].how) == ("finished", None, "ran")
    assert read_run("night", project).status == "finished"


def test_a_task_that_begins_the_run_takes_the_engines_id_where_nobody_has_given_ours(
    project, monkeypatch, capsys
):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which is the test runner's own
    words = ["--begin", "--engine", "sagemaker", "--end", "failed"]
    assert main(["step", "run", "--run", "-", "--run", "abc123", "--step", "first", *words]) == DONE
    board = open_board(project, "abc123")
    assert board.opening().engine == "sagemaker"
    assert board.ended() is None  # the step worked, and others follow
    assert main(["step", "run", "--outputs", "outputs", "--step", "first", "--begin"]) == YOU


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (["start"], '{"plus": 5}'),
        (["start"], "some.json"),
        (["run", "--begin", "--step", "first"], "some.yaml"),
        (["all"], "some.yaml"),
    ],
)
def test_parameters_are_an_object_or_a_file_of_them_wherever_a_run_begins(
    project, monkeypatch, words, params
):
    (project.root / "mended").touch()
    (project.root / "some.json").write_text('{"plus": 5}')
    (project.root / "some.yaml").write_text("# as DVC keeps them\nplus: 5\n")
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which is the test runner's own
    assert main(["step", words[0], "--run", "night", "--params", params, *words[1:]]) == DONE
    assert open_board(project, "night").opening().started.params == {"plus": 5}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ('{"plus": 5', "--params is no JSON: "),
        ("[5]", "--params has no parameters by name"),
        ("gone.yaml", "there is no file gone.yaml"),
        ("bad.yaml", "bad.yaml is no YAML: "),
        ("empty.yaml", "empty.yaml has no parameters by name"),
    ],
)
def test_parameters_that_are_none_are_refused_with_what_to_type(
    project, monkeypatch, capsys, params, says
):
    (project.root / "bad.yaml").write_text("plus: [5")
    (project.root / "empty.yaml").write_text("")
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # which is the test runner's own
    assert main(["step", "start", "--run", "night", "--params", params]) == YOU
    told = capsys.readouterr().err
    assert says in told
    assert "→ --params '{" in told


def test_the_first_end_counts_as_long_as_nothing_runs_again(project):
    failed(project, "night")
    assert tasks.conclude(project, "night", "interrupted").status == "failed"


def test_a_journal_that_another_end_has_outdated_is_written_anew(project):
    failed(project, "night")
    journal = project.state / "runs" / "night" / "journal.jsonl"
    old = journal.read_bytes()
    (project.root / "mended").touch()
    tasks.perform(project, "night", ["second"], attempt=2)
    journal.write_bytes(old)  # as on a machine on which the step did not run again
    assert tasks.conclude(project, "night").status == "finished"


def test_a_run_whose_engine_gave_it_up_before_a_step_began_says_what_the_engine_says(project):
    tasks.begin(project, "night", {}, engine="shell")
    told = tasks.conclude(project, "night", because="the worker has no charkha")
    assert (told.status, told.error) == ("failed", "shell: the worker has no charkha")


def test_two_projects_that_share_a_bucket_may_call_their_runs_the_same(project, tmp_path):
    tasks.begin(project, "night", {}, engine="shell")
    toml = tmp_path / "charkha.toml"
    toml.write_text(toml.read_text().replace('"both"', '"others"'))
    others = open_project(tmp_path)
    with pytest.raises(CharkhaError, match="nobody has begun"):
        open_board(others, "night").opening()


def test_a_run_is_read_in_the_environment_that_it_was_submitted_in(project):
    prod = open_project(project.root, "prod")
    tasks.begin(prod, "night", {}, engine="shell")
    submitting.found(prod, "night", "shell", {"pid": "0", "folder": str(project.root)})
    assert [one.id for one in list_runs(project)] == ["night"]
