"""The run of a turn, as a process that ends in every way."""

import pytest

from charkha.errors import Unavailable
from charkha.loop.training import ProcessTrainer
from charkha.project import open_project

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
    trained = trainer("SIGKILL").train({})
    assert trained.run is None
    assert trained.failed == "charkha run was killed, which the kernel does where memory runs out"


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_run_that_was_asked_to_end_is_tried_again(trainer, signal):
    with pytest.raises(Unavailable, match="charkha run ended with"):
        trainer(signal).train({})
