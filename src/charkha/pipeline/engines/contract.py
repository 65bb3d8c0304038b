"""What every Engine must do. A new one passes this suite before it is reviewed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from charkha.errors import ProjectError
from charkha.pipeline import submitting
from charkha.pipeline.engines.port import open_engine
from charkha.pipeline.plans import Cannot, check, plan
from charkha.pipeline.run import load_pipeline, run
from charkha.pipeline.runs import list_runs, read_run
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.pipeline.engines.port import Engine
    from charkha.pipeline.plans import Plan
    from charkha.pipeline.runs import Run
    from charkha.project import Project

TOML = '[project]\nname = "parity"\n[pipeline]\nentry = "steps_of_{name}.py"\n'
PIPELINE = '''
"""A fan-out over what a step returned, a group, a step that fails before it works, and parameters."""

import os
import time
from pathlib import Path

from charkha import pipeline, step

MARKS = Path(os.environ["CHARKHA_TEST_MARKS"])


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def squared(number: int, plus: float) -> float:
    return number * number + plus


@step(retries=2)
def shaky(squares: list, fails: int) -> float:
    mark = MARKS / "shaky"
    tries = len(mark.read_text()) if mark.exists() else 0
    mark.write_text("x" * (tries + 1))
    if tries < fails:
        raise ConnectionError(f"try {tries + 1} fails")
    return sum(squares)


@step(group="end")
def halved(total: float) -> float:
    return total / 2


@step(group="end", outputs=("low", "high"))
def bounds(half: float, squares: list) -> tuple[float, float]:
    return min(*squares, half), max(*squares, half)


@step
def slow(low: float, seconds: float) -> float:
    (MARKS / "slow").write_text(str(os.getpid()))
    time.sleep(seconds)
    return low


@pipeline
def parity(count: int = 3, plus: float = 0.5, fails: int = 1, seconds: float = 0.0) -> None:
    squares = squared.each(number=numbers(count))(plus=plus)
    total = shaky(squares, fails=fails)
    low, high = bounds(halved(total), squares)
    slow(low, seconds=seconds)
'''


class EngineContract:
    """Subclass it with `name`, and with a fixture `settings` where the engine needs some."""

    name: str
    patience_s = 240.0

    @pytest.fixture
    def settings(self) -> str:
        """Lines of charkha.toml."""
        return ""

    @pytest.fixture
    def tables(self) -> Path | None:
        """Return an MLflow database that has its tables, to be copied; they take seconds to make."""
        return None

    @pytest.fixture
    def project(
        self,
        tmp_path: Path,
        settings: str,
        tables: Path | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Project:
        (tmp_path / "marks").mkdir()
        monkeypatch.setenv("CHARKHA_TEST_MARKS", str(tmp_path / "marks"))
        name = f"{self.name}_{abs(hash(tmp_path)) % 10**8}"  # a module is imported once
        root = tmp_path / "parity"
        root.mkdir()
        (root / "charkha.toml").write_text(TOML.format(name=name) + settings)
        (root / f"steps_of_{name}.py").write_text(PIPELINE)
        if tables:
            (root / ".charkha").mkdir()
            shutil.copyfile(tables, root / ".charkha" / "mlflow.db")
        return open_project(root)

    @pytest.fixture
    def engine(self, project: Project) -> Engine:
        return open_engine(project, self.name)

    def submitted(self, project: Project, **params: object) -> Run:
        """Return a run on this engine that has ended."""
        return submitting.follow(project, submitting.submit(project, self.name, params=params))

    def test_a_plan_is_always_compiled_to_the_same_text(
        self, project: Project, engine: Engine
    ) -> None:
        first, again = (engine.compile(planned(project)) for _ in range(2))
        assert first == again
        assert first
        assert all("charkha render" in text for text in first.values())

    def test_what_it_cannot_do_is_refused_with_the_step_and_a_way_round(
        self, project: Project, engine: Engine
    ) -> None:
        for what in ("cpu", "memory", "gpu", "schedule"):
            ability = getattr(engine.abilities, what)
            if isinstance(ability, Cannot):
                made = asking_for(planned(project), what)
                with pytest.raises(ProjectError) as refused:
                    check(made, self.name, engine.abilities)
                assert refused.value.fix == ability.instead
                with pytest.raises(ProjectError):
                    engine.compile(made)

    def test_it_finds_a_local_runs_results_says_why_it_makes_others_and_they_are_the_same(
        self, project: Project
    ) -> None:
        run(project=project)
        (Path(os.environ["CHARKHA_TEST_MARKS"]) / "shaky").unlink()
        done = self.submitted(project, plus=1.0)
        assert done.status == "finished", done.error
        hows = {step.name: step.how for step in done.steps.values()}
        assert hows.pop("numbers") == "reused"
        assert set(hows.values()) == {"ran"}
        assert done.steps["shaky"].attempts == 2
        [reason] = done.steps["squared[0]"].because
        assert (reason["kind"], reason["name"]) == ("parameters", "plus")
        assert (reason["was"], reason["now"]) == ("0.5", "1.0")
        local = run(project=project, params={"plus": 1.0})
        assert {step.how for step in local.steps.values()} == {"reused"}
        assert digests(local) == digests(done)

    def test_a_step_that_never_works_fails_the_run_after_its_retries(
        self, project: Project
    ) -> None:
        done = self.submitted(project, fails=9)
        assert done.status == "failed"
        assert (done.steps["shaky"].how, done.steps["shaky"].attempts) == ("failed", 3)
        assert "try 3 fails" in str(done.error)
        assert str(done.error).count("step 'shaky'") == 1
        assert done.steps["slow"].how == "waiting"
        assert [one.status for one in list_runs(project)] == ["failed"]

    def test_a_step_that_takes_too_long_fails_the_run(self, project: Project) -> None:
        file = project.root / project.pipeline.entry
        limited = file.read_text().replace("@step\ndef slow", "@step(timeout_s=1.5)\ndef slow")
        file.write_text(limited)
        done = self.submitted(project, seconds=600.0, fails=0)
        assert done.status == "failed"
        assert "1.5 s" in str(done.error)
        assert done.steps["slow"].how == "failed"

    def test_a_run_that_is_cancelled_is_told_as_interrupted(self, project: Project) -> None:
        started = submitting.submit(project, self.name, params={"seconds": 600.0, "fails": 0})
        wait_for(Path(os.environ["CHARKHA_TEST_MARKS"]) / "slow", self.patience_s)
        assert read_run(started, project).status == "running"
        assert submitting.cancel(project, started).status == "interrupted"
        assert read_run(started, project).status == "interrupted"

    def test_a_step_whose_process_is_killed_fails_the_run_and_nothing_is_said_to_run(
        self, project: Project
    ) -> None:
        started = submitting.submit(project, self.name, params={"seconds": 600.0, "fails": 0})
        mark = Path(os.environ["CHARKHA_TEST_MARKS"]) / "slow"
        wait_for(mark, self.patience_s)
        os.kill(int(mark.read_text()), signal.SIGKILL)
        done = submitting.follow(project, started)
        assert done.status == "failed"
        assert "'slow'" in str(done.error)
        assert read_run(started, project).steps["slow"].how in ("failed", "interrupted")


def planned(project: Project) -> Plan:
    """Return the plan of the project's pipeline."""
    return plan(load_pipeline(project), project, {})


def asking_for(made: Plan, what: str) -> Plan:
    """Return the plan with a step, or a schedule, that asks for this."""
    if what == "schedule":
        return replace(made, schedule="0 3 * * *")
    name, node = next(iter(made.graph.nodes.items()))
    asked: dict[str, Any] = {"cpu": 1.0, "memory": "1GB", "gpu": 1.0}
    node = replace(node, options=replace(node.options, **{what: asked[what]}))
    return replace(made, graph=replace(made.graph, nodes={**made.graph.nodes, name: node}))


def digests(done: Run) -> dict[str, str]:
    """Return the digests of everything that a run's steps returned."""
    return {
        f"{step.name}.{output}": artifact.digest
        for step in done.steps.values()
        for output, artifact in step.outputs.items()
    }


def wait_for(file: Path, patience_s: float) -> None:
    """Wait until somebody has written a file."""
    until = time.monotonic() + patience_s
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until, f"nobody has written {file.name}"
        time.sleep(0.05)
