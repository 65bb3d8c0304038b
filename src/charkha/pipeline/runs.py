"""Runs as they are told afterwards, from their journals: status, steps, reasons, outputs."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.blobs import open_blobs
from charkha.definition import nearest
from charkha.errors import UserError
from charkha.events import (
    Event,
    Noticed,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepRetried,
    StepStarted,
)
from charkha.pipeline import journal
from charkha.pipeline.artifacts import Artifact, Artifacts
from charkha.pipeline.reasons import Reason
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project

_OURS = re.compile(r"\d{8}-\d{6}-\d{3}-[0-9a-f]{4}$")  # given by the clock, where no engine has it
ENGINE_FILE = "engine.json"  # in a run's folder: which engine has it, and how it is found there


@dataclass
class StepStory:
    """What became of one step."""

    name: str
    how: str = "waiting"  # or running, ran, reused, shared, failed, interrupted, crashed
    because: list[Reason] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 0
    key: str = ""
    function: str = ""  # module:qualname
    outputs: dict[str, Artifact] = field(default_factory=dict)
    error: str | None = None
    where: str | None = None
    log: str | None = None


@dataclass
class Run:
    """One walk over a graph; shown as a table, with each step and why it ran."""

    id: str
    folder: Path
    project: Project
    started: RunStarted | None = None
    started_at: float = 0.0
    status: str = "running"  # "finished" | "failed" | "interrupted" | "crashed"
    seconds: float = 0.0
    error: str | None = None
    steps: dict[str, StepStory] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def cached(self) -> int:
        """How many steps did not have to run."""
        return sum(step.how in ("reused", "shared") for step in self.steps.values())

    def output(self, name: str) -> object:
        """Load what a step returned: `run.output("fit")`, `run.output("split.train")`.

        Raises:
            UserError: there is no such step or output in this run.
        """
        step, _, wanted = name.partition(".")
        story = self.steps.get(step)
        if story is None or not story.outputs:
            raise UserError(
                f"run {self.id} has no output of a step {step!r}",
                fix=f"its steps are: {', '.join(self.steps)}",
            )
        if (wanted or next(iter(story.outputs))) not in story.outputs:
            raise UserError(
                f"step {step!r} has no output {wanted!r}", fix=f"use one of {list(story.outputs)}"
            )
        return open_artifacts(self.project).load(story.outputs[wanted or next(iter(story.outputs))])

    def __repr__(self) -> str:
        pipeline = self.started.pipeline if self.started else "?"
        head = f"run {self.id} of {pipeline}: {self.status} in {self.seconds:.2f} s"
        width = max((len(name) for name in self.steps), default=0)
        rows = [
            f"  {s.name:<{width}}  {s.how:<7}  {s.seconds:8.2f} s  {first_reason(s)}".rstrip()
            for s in self.steps.values()
        ]
        return "\n".join([head, *rows, *([f"  {self.error}"] if self.error else [])])


def open_artifacts(project: Project) -> Artifacts:
    """Return the artifacts of a project."""
    return Artifacts(
        open_blobs(project), project.state / "files", allow_pickle=project.allow_pickle
    )


def first_reason(step: StepStory) -> str:
    """Return the first reason why a step ran, with how many there are beside it."""
    if not step.because:
        return ""
    more = len(step.because) - 1
    return f"{step.because[0]['text']}{f' (and {more} more)' if more else ''}"


def read_run(run: str, project: Project | None = None) -> Run:
    """Read a run by its id, by an unambiguous beginning of it, or as "last".

    Raises:
        UserError: there is no such run, or several begin so.
    """
    project = project or open_project()
    folder = _find(project, run)
    if not (folder / "journal.jsonl").exists():  # on another engine, and not ended here
        elsewhere: Run = import_module("charkha.pipeline.submitting").look(project, folder.name)
        return elsewhere
    told = Run(folder.name, folder, project)
    last_at = 0.0
    for line in journal.read(folder):
        last_at = line.at
        told.started_at = told.started_at or line.at
        tell(told, line.event)
    if told.status == "running":
        told.seconds = last_at - told.started_at
        if not journal.is_alive(folder):
            _crashed(told)
    return told


def list_runs(project: Project, limit: int | None = None) -> list[Run]:
    """Return the newest runs first."""
    names = run_ids(project)[::-1]
    return [read_run(name, project) for name in names[:limit]]


def tell(run: Run, event: Event) -> None:
    """Bring a run up to date with one more event."""
    match event:
        case RunStarted():
            run.started = event
            run.steps = {name: StepStory(name) for name in event.steps}
        case StepStarted():
            step = _story(run, event.step)
            step.how, step.attempts, step.because = "running", event.attempt, event.because
        case StepFinished():
            step = _story(run, event.step)
            step.how, step.key, step.seconds = event.how, event.key, event.seconds
            step.function = event.function
            step.outputs = {n: Artifact.from_json(a) for n, a in event.outputs.items()}
        case StepRetried():
            _story(run, event.step).error = event.error
        case StepFailed():
            step = _story(run, event.step)
            step.how, step.error, step.where, step.log = (
                "failed",
                event.error,
                event.where,
                event.log,
            )
        case Noticed():
            run.notices.append(f"{event.step}: {event.text}" if event.step else event.text)
        case RunFinished():
            run.status, run.seconds, run.error = event.status, event.seconds, event.error
            _leave(run, "interrupted")


def _story(run: Run, name: str) -> StepStory:
    """Return a step's story; elements of a fan-out take the place of their step, side by side."""
    if name not in run.steps:
        order = list(run.steps)
        step = name.partition("[")[0]
        kin = [i for i, other in enumerate(order) if other.partition("[")[0] == step]
        place = kin[-1] + 1 if kin else len(order)
        order.insert(place, name)
        stories = {**run.steps, name: StepStory(name)}
        if step in stories and stories[step].how == "waiting":
            order.remove(step)
        run.steps = {other: stories[other] for other in order}
    return run.steps[name]


def _crashed(run: Run) -> None:
    run.status = "crashed"
    run.error = "its process ended without a word (killed, or the machine went down)"
    _leave(run, "crashed")


def _leave(run: Run, how: str) -> None:
    for step in run.steps.values():
        if step.how == "running":
            step.how = how


def run_ids(project: Project) -> list[str]:
    """Return the ids of all runs, oldest first."""
    try:
        folders = [f for f in (project.state / "runs").iterdir() if f.is_dir()]
    except FileNotFoundError:
        return []
    begun = {folder.name: _begun(folder) for folder in folders}
    found = [(when, name) for name, when in begun.items() if when is not None]
    return [name for _, name in sorted(found)]


def _begun(folder: Path) -> str | None:
    """Return when a run began, as an id of ours says it; None where the folder is no run's."""
    story, kept = folder / "journal.jsonl", folder / ENGINE_FILE
    if not story.exists() and not kept.exists():
        return None
    if not kept.exists() and _OURS.match(folder.name):
        return folder.name
    with suppress(OSError, ValueError, KeyError, TypeError), story.open("rb") as file:
        return journal.moment(journal.from_bytes(file.readline()).at)
    with suppress(FileNotFoundError):
        return journal.moment((kept if kept.exists() else story).stat().st_mtime)
    return None


def _find(project: Project, run: str) -> Path:
    runs, names = project.state / "runs", run_ids(project)
    if not names:
        raise UserError("no run yet", fix="charkha run")
    if run == "last":
        return runs / names[-1]
    matches = [name for name in names if name.startswith(run)]
    if run in matches or len(matches) == 1:
        return runs / (run if run in matches else matches[0])
    if matches:
        raise UserError(f"{run!r} is the beginning of {len(matches)} runs", fix="type more of it")
    meant = nearest(run, ["last", *reversed(names)])
    fix = f"did you mean {meant!r}?" if meant else "list the runs: charkha runs"
    raise UserError(f"no run {run!r}", fix=fix)
