"""What happened: typed events, and one tiny bus on which everybody else listens.

An event is a NamedTuple and not a dataclass: creating a dataclass type costs half a millisecond,
and a run whose steps are all cached is over in a few tens of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class RunStarted(NamedTuple):
    """A walk over the graph begins; written before anything else."""

    run: str
    project: str
    pipeline: str  # module:function
    environment: str
    params: dict[str, object]
    steps: list[str]  # in the order of the graph
    datasets: dict[str, str]  # name -> version
    commit: str | None  # of the project's git; None outside git
    dirty: bool
    user: str
    host: str
    pid: int


class StepStarted(NamedTuple):
    """A step has to run, for these reasons."""

    step: str
    attempt: int  # from 1
    because: list[dict[str, object]]  # charkha.pipeline.reasons


class StepFinished(NamedTuple):
    """A step's outputs are in the blobs, its entry is in the cache."""

    step: str
    function: str  # module:qualname
    how: str  # "ran" | "reused" | "shared" (another run computed it while we waited)
    key: str
    outputs: dict[str, dict[str, object]]  # output -> charkha.pipeline.artifacts.Artifact as JSON
    captured: dict[str, dict[str, object]]  # what a context kept beside the outputs (MLflow logs)
    seconds: float  # of computing it, when it was computed


class StepRetried(NamedTuple):
    """An attempt failed and another one follows."""

    step: str
    attempt: int  # the one that failed
    error: str


class StepFailed(NamedTuple):
    """The last attempt failed."""

    step: str
    error: str
    where: str | None  # file:line in the project, innermost
    log: str | None  # a file with the traceback


class Noticed(NamedTuple):
    """Something a person should know, though the run goes on."""

    text: str
    step: str | None = None


class RunFinished(NamedTuple):
    """The walk is over."""

    status: str  # "finished" | "failed" | "interrupted"
    seconds: float
    error: str | None = None


Event = RunStarted | StepStarted | StepFinished | StepRetried | StepFailed | Noticed | RunFinished
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        StepStarted,
        StepFinished,
        StepRetried,
        StepFailed,
        Noticed,
        RunFinished,
    )
}
Listener = Callable[[Event], None]


class Bus:
    """Hands each event to every listener, in the order in which they were added."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
