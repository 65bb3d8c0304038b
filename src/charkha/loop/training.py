"""Running the pipeline for the loop, here or on an engine, and finding the version that it made."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from charkha.errors import THEY, CharkhaError, Unavailable
from charkha.models import elsewhere, tracker
from charkha.models.recording import PACKAGE_STEP
from charkha.models.registry import list_versions
from charkha.pipeline import submitting
from charkha.pipeline.engines.port import ENDED
from charkha.pipeline.runs import Run, read_run

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project

_ENDED_FROM_OUTSIDE = {-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT, 128 + signal.SIGTERM}
_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
_LOOK_S = 1.0  # between two looks whether the turn of a run is over
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_GRACE_S = 10.0  # for a run to end after each of them
_LINES = 12  # of what a run that failed said last
_PATIENCE_S = 120.0  # for MLflow to have what a run made


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What became of a run."""

    run: str | None
    failed: str | None = None  # why
    goes_on: bool = False  # somewhere else: to be asked for again


class Trainer(Protocol):
    """Runs the pipeline. Twice with the same parameters is once: the second reuses the first."""

    def train(self, params: Mapping[str, str], turn: str, over: Callable[[], bool]) -> Trained:
        """Run it for a turn, to its end or elsewhere; one that fails is an answer, not an error.

        Args:
            params: of the pipeline.
            turn: its id.
            over: whether somebody has ended the turn meanwhile; then the run is stopped.

        Raises:
            Unavailable: others keep it from ending; it may be tried again.
        """
        ...

    def stop(self, turn: str) -> None:
        """End what runs elsewhere for a turn; what runs here sees by itself that it is over.

        Raises:
            Unavailable: it may go on, as the engine does not answer, or refuses.
        """
        ...

    def made(self, model: str, run: str) -> ModelVersion | None:
        """Return the version of a model that a run made or found; None where it made none.

        Raises:
            Unavailable: the registry does not have it yet.
        """
        ...


class ProcessTrainer:
    """`charkha run` as a process: it sees the code as it is now, and its memory ends with it."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def train(self, params: Mapping[str, str], turn: str, over: Callable[[], bool]) -> Trained:
        return self._run(params, over)

    def stop(self, turn: str) -> None:
        pass

    def _run(self, params: Mapping[str, str], over: Callable[[], bool], *more: str) -> Trained:
        given = [part for name, value in params.items() for part in ("--param", f"{name}={value}")]
        command = [sys.executable, "-m", "charkha", "run", "--json", *more]
        command += ["--env", self._project.environment, *given]
        done = _done(command, self._project.root, over)
        if done is None:
            return Trained(run=None, failed="it was stopped, as its turn was over")
        if done.returncode == 0:
            return Trained(run=str(json.loads(done.stdout)["run"]))
        said = "\n".join(done.stderr.strip().splitlines()[-_LINES:])
        ended = f"charkha run ended with {done.returncode}"
        if done.returncode in _KILLED:  # to do that again and again would starve who serves here
            ended = "charkha run was killed, which the kernel does where memory runs out"
        failed = f"{ended}: {said}" if said else ended
        if done.returncode == THEY or done.returncode in _ENDED_FROM_OUTSIDE:
            raise Unavailable(failed, fix="charkha run")
        return Trained(run=None, failed=failed)

    def made(self, model: str, run: str) -> ModelVersion | None:
        packages = packages_of(read_run(run, self._project))
        if not packages:
            return None
        self._track(run)  # first, for its verdict counts, and not an earlier one of this package
        found = self._version(model, packages)
        if found is None:  # it was reused from a run that was cut off, and that one brings it
            for earlier in tracker.unfinished(self._project):
                if packages & packages_of(read_run(earlier, self._project)):
                    self._track(earlier)
            found = self._version(model, packages)
        return found

    def _track(self, run: str) -> None:
        """Wait until MLflow has all of a run.

        Raises:
            Unavailable: it does not get it.
        """
        if run in tracker.pending(self._project):
            tracker.start(self._project, run)
        reached = tracker.wait(self._project, run, _PATIENCE_S)
        if os.path.exists(tracker.marker(self._project, run)):
            raise Unavailable(
                f"MLflow does not have run {run} yet: {reached.error or reached.state}",
                fix=f"charkha runs {run}",
            )

    def _version(self, model: str, packages: set[str]) -> ModelVersion | None:
        versions = list_versions(self._project, model)
        return next((v for v in reversed(versions) if v.package in packages), None)


class EngineTrainer(ProcessTrainer):
    """The pipeline on another engine, under an id made of the turn's.

    Nobody waits for it: a look begins it, a later one finds how it ended, and one that was killed in
    between, or is on another machine, finds the same run.
    """

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self._engine = project.loop.engine

    def train(self, params: Mapping[str, str], turn: str, over: Callable[[], bool]) -> Trained:
        run = _run_of(turn)
        if not submitting.is_taken(self._project, run):
            begun = self._run(params, over, "--on", self._engine, "--detach", "--run", run)
            if begun.run is None:
                return begun
        if submitting.is_taken(self._project, run):  # else it has ended, begun on another machine
            try:
                state = submitting.ask(self._project, run)
            except CharkhaError as e:
                raise Unavailable(
                    f"how far run {run} on {self._engine} is, is not known: {e.what}",
                    fix=e.fix or f"charkha runs {run}",
                ) from e
            if state.status not in ENDED:  # though it has, its last task may be filling MLflow
                return Trained(run=run, goes_on=True)
        told = read_run(run, self._project)
        if told.status == "finished":
            return Trained(run=run)
        why = f"run {run} on {self._engine} {told.status}: {told.error or 'it does not say why'}"
        return Trained(run=None, failed=why)

    def stop(self, turn: str) -> None:
        run = _run_of(turn)
        if not submitting.is_taken(self._project, run):
            return
        try:
            submitting.cancel(self._project, run)
        except CharkhaError as e:
            raise Unavailable(
                f"run {run} may go on on {self._engine}: {e.what}",
                fix=f"charkha run --on {self._engine} --run {run}, and Ctrl-C once it is followed",
            ) from e

    def made(self, model: str, run: str) -> ModelVersion | None:
        found = super().made(model, run)
        reached = elsewhere.state_of(self._project, run) if found is None else None
        if reached is not None and reached.state != "done":  # as its last task has said
            raise Unavailable(
                f"MLflow does not have run {run} yet: {reached.error or reached.state}",
                fix=f"charkha runs, on the machine where the last task of run {run} ran",
            )
        return found


def _done(
    command: list[str], root: Path, over: Callable[[], bool]
) -> subprocess.CompletedProcess[str] | None:
    """Return what a process did until it ended; None where it was stopped, as its turn was over."""
    pipe, asked = subprocess.PIPE, 0  # times that it was asked to end, each time less kindly
    asked_at = -math.inf
    with subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603  # ourselves
        try:
            while True:
                try:
                    said = process.communicate(timeout=_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    waits = time.monotonic() - asked_at < _GRACE_S or asked == len(_ENDING)
                    if not waits and (asked or over()):
                        process.send_signal(_ENDING[asked])
                        asked, asked_at = asked + 1, time.monotonic()
        finally:
            if process.poll() is None:  # we are asked to end: the next loop begins it again
                process.kill()
    return None if asked else subprocess.CompletedProcess(command, process.returncode, *said)


def _run_of(turn: str) -> str:
    """Return the id of the run of a turn on another engine."""
    return turn.replace("T", "-")


def packages_of(run: Run) -> set[str]:
    """Return the digests of the packages that a run made or reused."""
    return {
        artifact.digest
        for step in run.steps.values()
        if step.function == PACKAGE_STEP
        for artifact in step.outputs.values()
    }


if TYPE_CHECKING:

    def _fits(project: Project) -> Trainer:
        return EngineTrainer(project)
