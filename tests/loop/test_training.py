"""The run of a turn, as a process that ends in every way."""

import time

import pytest

from charkha.errors import Unavailable, UserError
from charkha.loop.opening import check_settings, trainer_of
from charkha.loop.training import ProcessTrainer
from charkha.models.tracker import TrackingState
from charkha.pipeline import submitting
from charkha.pipeline.boards import open_board
from charkha.pipeline.runs import list_runs
from charkha.project import open_project


def never():
    return False


ENDS = "import os, signal\nos.kill(os.getpid(), signal.{})\n"


@pytest.fixture
def trainer(tmp_path):
    """Return `trainer(signal)`: of a project whose pipeline ends its own process by that signal."""

    def trainer(signal):
        (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
        (tmp_path / "pipeline.py").write_text(ENDS.format(signal))
        return ProcessTrainer(open_project(tmp_path))

    return trainer


def test_a_run_that_was_killed_has_failed_and_says_what_may_be_why(trainer):
    trained = trainer("SIGKILL").train({}, "t1", never)
    assert trained.run is None
    assert trained.failed == "charkha run was killed, which the kernel does where memory runs out"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_run_that_was_asked_to_end_is_tried_again(trainer, signal):
    with pytest.raises(Unavailable, match="charkha run ended with"):
        trainer(signal).train({}, "t1", never)


def test_a_run_whose_turn_is_over_is_asked_to_end(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    (tmp_path / "pipeline.py").write_text("import time\ntime.sleep(600)\n")
    trained = ProcessTrainer(open_project(tmp_path)).train({}, "t1", lambda: True)
    assert (trained.run, trained.failed) == (None, "it was stopped, as its turn was over")


ELSEWHERE = """
import time
from pathlib import Path

from charkha import pipeline, step

HERE = Path(__file__).parent


@step(cache=False)
def slow(until: str) -> str:
    with (HERE / "begun").open("a") as file:
        file.write("x")
    while (HERE / "wait").exists():
        time.sleep(0.05)
    if until == "never":
        raise ValueError("there is no such moment")
    return until


@pipeline
def one(until: str = "") -> None:
    slow(until)
"""
TURN = "20261126T101500-ab12"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "one"\n[loop]\nengine = "shell"\n')
    (tmp_path / "pipeline.py").write_text(ELSEWHERE)
    return tmp_path


def ended(project, params):
    """Look again and again, each time as a loop that has begun anew, until the run has ended."""
    until = time.monotonic() + 120
    while (trained := trainer_of(project).train(params, TURN, never)).goes_on:
        assert time.monotonic() < until, "it did not end"
        time.sleep(0.2)
    return trained


def test_a_loop_that_was_killed_finds_its_run_on_the_engine_and_starts_no_other(root):
    project = open_project(root)
    (root / "wait").touch()
    assert trainer_of(project).train({"until": "today"}, TURN, never).goes_on
    [begun] = list_runs(project)
    submitting.keep(project, begun.id, "shell", None)  # as who is killed before it has the answer
    assert trainer_of(project).train({"until": "today"}, TURN, never).goes_on
    (root / "wait").unlink()
    assert ended(project, {"until": "today"}).run == begun.id == "20261126-101500-ab12"
    assert [(run.id, run.status) for run in list_runs(project)] == [(begun.id, "finished")]
    assert (root / "begun").read_text() == "x"

    assert trainer_of(project).made("one", begun.id) is None
    behind = TrackingState(state="waiting", error="MLflow is away")
    open_board(project, begun.id).keep("mlflow", behind._asdict())
    with pytest.raises(Unavailable, match="MLflow is away"):
        trainer_of(project).made("one", begun.id)


def test_a_run_on_an_engine_is_stopped_when_its_turn_is_aborted(root):
    project = open_project(root)
    (root / "wait").touch()
    trainer_of(project).stop(TURN)  # nothing was begun yet
    assert trainer_of(project).train({"until": "today"}, TURN, never).goes_on
    trainer_of(project).stop(TURN)
    assert [run.status for run in list_runs(project)] == ["interrupted"]


def test_a_run_that_failed_on_an_engine_says_why_as_often_as_it_is_asked_for(root):
    project = open_project(root)
    for _ in range(2):
        trained = ended(project, {"until": "never"})
        assert trained.run is None
        assert "on shell failed: step 'slow' failed" in str(trained.failed)
    assert (root / "begun").read_text() == "x"


def test_an_engine_that_there_is_not_is_refused_before_a_turn_needs_it(root):
    (root / "charkha.toml").write_text('[project]\nname = "one"\n[loop]\nengine = "shel"\n')
    with pytest.raises(UserError, match="shel"):
        check_settings(open_project(root))
