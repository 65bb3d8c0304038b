"""Worker processes of one run: started when first needed, kept, and killed where time is up."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from charkha.errors import Bug, CharkhaError, Damaged, StepFailed
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.perform import Outcome
from charkha.pipeline.units import Unit

if TYPE_CHECKING:
    from charkha.pipeline.engines.gpus import Grant
    from charkha.project import Project


class _Worker:
    """One process, and the unit that it performs."""

    def __init__(self, setup: Mapping[str, object], grant: Grant | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "charkha.pipeline.engines.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=grant.environment if grant else None,
            pass_fds=grant.locks if grant else (),
        )
        self.once = grant is not None  # what is in a GPU's memory goes when its process does
        self.unit: Unit | None = None
        self.until = float("inf")  # monotonic seconds
        self._say(setup)

    def give(self, unit: Unit) -> None:
        self.unit = unit
        limit = unit.node.options.timeout_s
        self.until = float("inf") if limit is None else time.monotonic() + limit
        self._say(unit.task())

    def answer(self) -> dict[str, object] | None:
        """Return the next answer; None where the process has ended instead."""
        line = cast("bytes", self.process.stdout.readline())  # type: ignore[union-attr]
        return json.loads(line) if line.endswith(b"\n") else None

    def end(self) -> int:
        self.process.kill()
        self.process.communicate()
        return self.process.returncode

    def _say(self, message: Mapping[str, object]) -> None:
        stdin = self.process.stdin
        assert stdin is not None  # noqa: S101  # it was opened as a pipe
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            return  # it has ended; the answer, which does not come, tells


class Pool:
    """At most `size` workers, each with one unit at a time."""

    def __init__(self, project: Project, run: str, contexts: Mapping[str, str], size: int) -> None:
        self.size = size
        self._setup = {
            "root": str(project.root),
            "environment": project.environment,
            "run": run,
            "contexts": dict(contexts),
            "path": [p for p in sys.path if p.startswith(str(project.root))],
        }
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    @property
    def busy(self) -> int:
        return sum(worker.unit is not None for worker in self._workers)

    def give(self, unit: Unit, grant: Grant | None = None) -> None:
        """Start a unit; the caller has seen that `busy` is below `size`.

        One with GPUs gets a process of its own, as a framework looks once which there are.
        """
        worker = next((w for w in self._workers if w.unit is None and grant is None), None)
        if worker is None:
            worker = _Worker(self._setup, grant)
            self._workers.append(worker)
            self._selector.register(
                cast("int", worker.process.stdout), selectors.EVENT_READ, worker
            )
        worker.give(unit)

    def wait(
        self, at_most_s: float = float("inf")
    ) -> Iterator[tuple[Unit, Outcome | CharkhaError]]:
        """Wait until a unit is over; yield each that is, with its outcome or its failure."""
        nearest = min((w.until for w in self._workers if w.unit), default=float("inf"))
        left = min(at_most_s, max(0.0, nearest - time.monotonic()))
        pause = None if left == float("inf") else left
        for key, _ in self._selector.select(pause):
            worker: _Worker = key.data
            unit, answer = worker.unit, worker.answer()
            if answer is None:
                code = self._drop(worker)
                if unit is not None:
                    yield unit, _died(unit, code)
            elif unit is not None:
                worker.unit = None
                if worker.once:
                    self._drop(worker)
                yield unit, _told(unit, answer)
        for worker in [w for w in self._workers if w.unit and w.until <= time.monotonic()]:
            unit = cast("Unit", worker.unit)
            self._drop(worker)
            yield unit, _timed_out(unit)

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in list(self._workers):
            self._drop(worker)
        self._selector.close()

    def _drop(self, worker: _Worker) -> int:
        self._selector.unregister(cast("int", worker.process.stdout))
        self._workers.remove(worker)
        return worker.end()


def _told(unit: Unit, answer: dict[str, object]) -> Outcome | CharkhaError:
    match answer:
        case {"done": dict() as done}:
            for group in ("outputs", "captured"):
                done[group] = {n: Artifact.from_json(a) for n, a in done[group].items()}
            return Outcome(**{**done, "notices": tuple(done["notices"])})
        case {"failed": dict() as told}:
            failure = StepFailed(step=unit.name, **told)
            failure.exit_code = cast("int", answer["exit_code"])
            return failure
        case {"damaged": dict() as told}:
            return Damaged(told["what"], key=told["key"])
    return Bug(f"a worker broke in step {unit.name!r}:\n{answer.get('bug', answer)}")


def _died(unit: Unit, code: int) -> StepFailed:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    fix = "see whether the machine ran out of memory" if code == -9 else None
    return StepFailed(f"its process {how}", step=unit.name, fix=fix)


def _timed_out(unit: Unit) -> StepFailed:
    limit = unit.node.options.timeout_s
    return StepFailed(
        f"it took longer than its timeout of {limit:g} s",
        step=unit.name,
        fix="raise timeout_s in its @step(…), or make it faster",
    )
