"""What is said of a step that failed: what was raised, and where in the project's own code."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from charkha.errors import Bug, CharkhaError, StepFailed


def failed(step: str, error: BaseException, root: Path) -> StepFailed:
    """Return the failure of a step of the project at `root`; errors of ours keep fix and exit code."""
    if isinstance(error, CharkhaError):
        problem, fix = error.what, error.fix
    else:
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        fix = None
    found = StepFailed(problem, step=step, place=_innermost(error, root), fix=fix)
    if isinstance(error, CharkhaError) and not isinstance(error, Bug):
        found.exit_code = error.exit_code
    return found


def with_log(failure: StepFailed, log: str) -> StepFailed:
    """Return the same failure, which now says where its traceback is."""
    said = StepFailed(
        failure.problem, step=failure.step, place=failure.place, log=log, fix=failure.fix
    )
    said.exit_code = failure.exit_code
    return said


def full_text(error: BaseException) -> str:
    """Return the traceback of an error and of its causes."""
    return "".join(traceback.format_exception(error))


def _innermost(error: BaseException, root: Path) -> str | None:
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if path.startswith(f"{root}{os.sep}") and "site-packages" not in path:
            found = f"{os.path.relpath(path, root)}:{line}"
    return found
