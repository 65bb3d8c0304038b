"""Every exception, drawn as a tree; each branch is who has to act.

CharkhaError                   anything we raise on purpose
├── UserError               you can fix it; `fix` says how
│   ├── ProjectError        the definition is wrong, at `where`
│   ├── DataError           the data is not what it was declared to be
│   ├── StepFailed          code of a step raised; its cause is kept
│   ├── Refused             a rule of the project said no
│   └── MissingExtra        a backend was asked for, its library is absent
├── BackendError            somebody else's system refused
│   ├── NotFound            it answered: there is no such thing
│   ├── Damaged             it answered with other bytes than were stored
│   └── Unavailable         it did not answer; worth trying again
└── Bug                     we were wrong; please tell us
"""

from __future__ import annotations

DONE, YOU, USAGE, THEY, WE = 0, 1, 2, 3, 70  # exit codes; 70 is EX_SOFTWARE of sysexits.h

# The extras that one turn of the wheel on one's own machine needs, one command after another: who
# lacks one gets all of them at once. Serving alone is what an image may hold and nothing else.
_TOGETHER = frozenset({"tables", "sklearn", "dvc", "checks", "mlflow", "cli"})


class CharkhaError(Exception):
    """Anything we raise on purpose: what happened and, if known, what to do."""

    exit_code = WE

    def __init__(self, what: str, *, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.fix}" if self.fix else self.what


class UserError(CharkhaError):
    """You can fix it."""

    exit_code = YOU


class ProjectError(UserError):
    """The definition is wrong, at `where` (`charkha.toml:14`, `pipeline.py:30`, `step 'train'`)."""

    def __init__(self, what: str, *, where: str, fix: str | None = None) -> None:
        super().__init__(f"{where}: {what}", fix=fix)
        self.where = where


class DataError(UserError):
    """The data is not what it was declared to be."""


class StepFailed(UserError):
    """A step did not come to its end: its code raised (the cause is kept), or it was stopped.

    `place` is the innermost `file:line` of the project's own code, `log` a file with the traceback.
    """

    def __init__(
        self,
        problem: str,
        *,
        step: str,
        place: str | None = None,
        log: str | None = None,
        fix: str | None = None,
    ) -> None:
        where = f" at {place}" if place else ""
        look = f"the traceback is in {log}" if log else None
        super().__init__(f"step {step!r} failed{where}: {problem}", fix=fix or look)
        self.problem, self.step, self.place, self.log = problem, step, place, log


class Refused(UserError):
    """A rule of the project said no (a gate, a check before a promotion)."""


class MissingExtra(UserError):
    """A backend was asked for, its library is absent."""

    def __init__(self, backend: str, extra: str) -> None:
        wanted = "local" if extra in _TOGETHER else extra
        super().__init__(f"{backend} is not installed", fix=f"pip install 'charkha[{wanted}]'")
        self.extra = extra


class BackendError(CharkhaError):
    """Somebody else's system refused."""

    exit_code = THEY


class NotFound(BackendError):
    """It answered: there is no such thing."""


class Damaged(BackendError):
    """It answered with other bytes than were stored under `key`."""

    def __init__(self, what: str, *, key: str, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.key = key


class Unavailable(BackendError):
    """It did not answer; worth trying again."""


class Bug(CharkhaError):
    """We were wrong; please tell us."""
