"""Running the pipeline for the loop, in a process of its own, and finding the version that it made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from charkha.errors import THEY, Unavailable
from charkha.models import tracker
from charkha.models.recording import PACKAGE_STEP
from charkha.models.registry import list_versions
from charkha.pipeline.runs import Run, read_run

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project

_ENDED_FROM_OUTSIDE = {-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT, 128 + signal.SIGTERM}
_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
_LINES = 12  # of what a run that failed said last
_PATIENCE_S = 120.0  # for MLflow to have what a run made


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What became of a run."""

    run: str | None
    failed: str | None = None  # why


class Trainer(Protocol):
    """Runs the pipeline. Twice with the same parameters is once: the second reuses the first."""

    def train(self, params: Mapping[str, str]) -> Trained:
        """Run it to its end; a run that fails is an answer, not an error.

        Raises:
            Unavailable: others keep it from ending; it may be tried again.
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

    def train(self, params: Mapping[str, str]) -> Trained:
        given = [part for name, value in params.items() for part in ("--param", f"{name}={value}")]
        command = [sys.executable, "-m", "charkha", "run", "--json"]
        done = subprocess.run(  # noqa: S603  # ourselves
            [*command, "--env", self._project.environment, *given],
            cwd=self._project.root,
            capture_output=True,
            text=True,
            check=False,
        )
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
        return ProcessTrainer(project)
