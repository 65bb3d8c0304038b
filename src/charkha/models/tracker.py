"""Have MLflow filled from a run's journal by a process beside the run; ask how far it is.

The journal is the run's own record, so nothing waits for MLflow and nothing is lost without it. A
run whose tracking is not done has a marker in `.charkha/tracking/`. What the process does is in
`charkha.models.following`; it is started as `python -m charkha.models.tracker PROJECT_ROOT RUN`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from charkha.pipeline.journal import open_lock

if TYPE_CHECKING:
    from charkha.project import Project

RECORDING, WAITING, FAILED = "recording", "waiting", "failed"
_POLL_S = 0.05
_LOCK_FD = 3


class TrackingState(NamedTuple):
    """What the tracker of a run has reached, as `mlflow.json` in the run's folder holds it."""

    state: str = RECORDING  # "recording" | "waiting" | "done" | "failed"
    run_id: str | None = None  # MLflow's
    experiment_id: str | None = None
    uri: str | None = None  # of the tracking server
    versions: tuple[dict[str, object], ...] = ()  # {name, version, alias, step, because}
    error: str | None = None  # why it waits or failed


def start(project: Project, run: str) -> int | None:
    """Start the tracker of `run` in the background; return its process id.

    It outlives this process. None where one is at work already.
    """
    folder = project.state / "runs" / run
    waiting = marker(project, run)
    os.makedirs(os.path.dirname(waiting), exist_ok=True)
    os.close(os.open(waiting, os.O_CREAT | os.O_WRONLY, 0o644))
    lock = open_lock(folder / "tracker.lock")
    try:
        try:  # taken here and inherited, so that nobody can ask between the two whether it lives
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        log = str(folder / "tracker.log")
        command = [sys.executable, "-m", "charkha.models.tracker", str(project.root), run]
        return os.posix_spawn(
            sys.executable,
            [*command, "--env", project.environment, "--lock-fd", str(_LOCK_FD)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
            ],
        )
    finally:
        os.close(lock)


def read_state(project: Project, run: str) -> TrackingState:
    """Return what the tracker of `run` has written down so far."""
    try:
        with open(project.state / "runs" / run / "mlflow.json", encoding="utf-8") as file:
            kept = json.load(file)
    except FileNotFoundError:
        return TrackingState()
    return TrackingState(**{**kept, "versions": tuple(kept["versions"])})


def wait(project: Project, run: str, timeout_s: float | None = None) -> TrackingState:
    """Wait until the tracker of `run` has ended, or the time is up; return what it reached.

    One that ended without a word counts as waiting.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while is_tracked(project, run):
        if deadline is not None and time.monotonic() >= deadline:
            return read_state(project, run)
        time.sleep(_POLL_S)
    reached = read_state(project, run)
    if reached.state == RECORDING:
        return reached._replace(state=WAITING, error="its tracker was ended before it was done")
    return reached


def pending(project: Project) -> list[str]:
    """Return the runs that MLflow does not have in full and nobody works on.

    Oldest first, but those that failed after the others, as trying again may not help them.
    """
    left = [name for name in unfinished(project) if not is_tracked(project, name)]
    return sorted(left, key=lambda name: read_state(project, name).state == FAILED)


def unfinished(project: Project) -> list[str]:
    """Return the runs that MLflow does not have in full, oldest first, worked on or not."""
    try:
        return sorted(os.listdir(project.state / "tracking"))
    except FileNotFoundError:
        return []


def lent_run() -> str | None:
    """Return the run that MLflow has made for what `mlflow run` starts; None outside of it."""
    return os.environ.get("MLFLOW_RUN_ID")


def is_tracked(project: Project, run: str) -> bool:
    """Whether a tracker of this run is at work on this machine."""
    try:
        lock = os.open(project.state / "runs" / run / "tracker.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def marker(project: Project, run: str) -> str:
    """Return the file that is there as long as MLflow lacks something of `run`."""
    return f"{project.state}/tracking/{run}"


if __name__ == "__main__":
    sys.exit(import_module("charkha.models.following").main(sys.argv[1:]))
