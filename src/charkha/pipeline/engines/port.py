"""Engine: abilities, compile, submit, state, log, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from charkha import plugins

if TYPE_CHECKING:
    from charkha.pipeline.plans import Abilities, Plan
    from charkha.project import Project

Handle = dict[str, str]  # how an engine finds a run of its own again, as JSON
Status = Literal["queued", "running", "finished", "failed", "interrupted"]
ENDED: frozenset[Status] = frozenset({"finished", "failed", "interrupted"})


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """How far an engine is with a run, as it says itself."""

    status: Status
    tasks: Mapping[str, Status] = field(default_factory=dict)  # empty where it knows none
    url: str | None = None  # of its own page about the run
    because: str | None = None  # why it failed before any step could say so


class Engine(Protocol):
    """Somebody who runs the tasks of a plan, in their order, where they belong.

    A task calls `charkha step run`; before the first `charkha step start` is called, after the last
    one, whatever became of it, `charkha step finish`. Bytes go through the blobs; an engine carries
    ids. Made with the project, as `Engine(project)`.
    """

    @property
    def abilities(self) -> Abilities:
        """What it does with what steps ask for; the table in the documentation is made of these."""
        ...

    def compile(self, plan: Plan) -> dict[str, str]:
        """Return the texts of the files that it reads, by paths relative to the project.

        Needs no network; the same plan gives the same texts.

        Raises:
            ProjectError: the plan asks for what this engine has no way to do.
        """
        ...

    def submit(self, plan: Plan, run: str) -> Handle:
        """Have the engine start a run that was begun under this id; return when it was taken.

        Raises:
            BackendError: the engine does not answer, or refuses it.
        """
        ...

    def state(self, handle: Handle) -> EngineState:
        """Ask the engine how far it is.

        Raises:
            Unavailable: it does not answer.
        """
        ...

    def log(self, handle: Handle, task: str) -> str:
        """Return what the engine has of a task's output; "" where it has nothing."""
        ...

    def cancel(self, handle: Handle) -> None:
        """Have the engine stop a run; stopping what has ended is no error."""
        ...


def open_engine(project: Project, name: str) -> Engine:
    """Return the engine of this name, for a project.

    Raises:
        UserError: there is no engine of that name, or its extra is not installed.
    """
    made: Engine = plugins.find("engines", name)(project)
    return made
