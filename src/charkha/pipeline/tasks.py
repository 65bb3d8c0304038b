"""What an engine's tasks do: begin a run, perform some of its steps, count elements, end the run.

Every engine starts these in its own way and order; here they are the same. Each may be killed and
started again: a run is begun once, a step that is done is found in the cache, and the first end counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charkha.data.blobs.local import refused
from charkha.definition import nearest
from charkha.errors import NotFound, ProjectError, UserError
from charkha.events import Bus, Event, Listener, RunFinished, StepFinished, StepStarted
from charkha.pipeline import loaded
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.boards import Board, Opening, open_board
from charkha.pipeline.engines.local import LocalEngine, Part
from charkha.pipeline.graph import Graph
from charkha.pipeline.journal import as_bytes
from charkha.pipeline.memory import FileMemory, SharedMemory
from charkha.pipeline.parameters import parsed
from charkha.pipeline.plans import shape_of
from charkha.pipeline.run import load_pipeline, started
from charkha.pipeline.runs import Run, open_artifacts, read_run, tell
from charkha.pipeline.units import elements, resolve

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore
    from charkha.pipeline.artifacts import Artifacts
    from charkha.pipeline.memory import Memory
    from charkha.pipeline.steps import Pipeline
    from charkha.pipeline.units import Outputs
    from charkha.project import Project

LENT = "memory"  # under which a board keeps what the machine knew that has submitted the run


def begin(
    project: Project,
    run: str,
    params: Mapping[str, object],
    *,
    engine: str,
    pipeline: Pipeline[Any, Any] | None = None,
    shape: str | None = None,
) -> Opening:
    """Trace the pipeline and write the run on its board, where nobody has done so before.

    Args:
        project: as this machine has it.
        run: letters, digits, - _ and dots.
        params: as for `charkha.run`.
        engine: that starts the tasks.
        pipeline: by default the one that charkha.toml names.
        shape: of the plan that the engine's tasks were made from, which must be this graph's.

    Raises:
        ProjectError: the definition is wrong, or these parameters give a graph of another shape.
    """
    board = open_board(project, run)
    try:
        return board.opening()
    except NotFound:
        pass
    pipeline = pipeline or load_pipeline(project)
    given = parsed(pipeline, {**project.pipeline.params, **params}, project)
    graph = pipeline.trace(given, project)
    if shape is not None and shape_of(graph) != shape:
        raise ProjectError(
            f"{engine} has tasks for other steps than these parameters give",
            where=graph.pipeline,
            fix=f"charkha render {engine}, with these parameters",
        )
    return board.open(engine, started(run, graph, project), graph)


def perform(
    project: Project,
    run: str,
    steps: Collection[str],
    *,
    element: int | None = None,
    attempt: int | None = None,
    workers: int | None = None,
    listeners: Iterable[Listener] = (),
    contexts: Mapping[str, str] | None = None,
) -> None:
    """Perform steps of a run that was begun, and tell its board; what is in the cache is reused.

    Args:
        project: as this machine has it.
        run: its id.
        steps: those of one task, in any order.
        element: the only one of the step's fan-out, from 0; all of them without it.
        attempt: from 1, where the engine begins another one by itself; 0 where it does not say
            which: one more than were begun. The step is tried again here without it.
        workers: how many processes may run steps or elements at the same time.
        listeners: called with every event.
        contexts: see `charkha.pipeline.run.run`.

    Raises:
        CharkhaError: a step failed, or one before it has not finished.
    """
    load_pipeline(project)
    board, artifacts = open_board(project, run), open_artifacts(project)
    graph = board.opening().graph
    check_steps(graph, steps, element)
    if board.reopen():  # an engine's page has a task run again: another end has to follow
        (project.state / "runs" / run / "journal.jsonl").unlink(missing_ok=True)
    needed = {need for step in steps for need in graph.nodes[step].needs()} - set(steps)
    known = {step: outputs_of(board, graph, step, artifacts) for step in sorted(needed)}
    if attempt == 0:
        attempt = _begun(board, steps, element) + 1
    walk(
        project,
        run,
        graph,
        Part(steps=frozenset(steps), known=known, element=element, attempt=attempt),
        memory=memory_of(project, graph, board.blobs, board),
        workers=workers,
        listeners=(_teller(board), *listeners),
        contexts=contexts,
    )


def walk(
    project: Project,
    run: str,
    graph: Graph,
    part: Part,
    *,
    memory: Memory,
    workers: int | None = None,
    listeners: Iterable[Listener] = (),
    contexts: Mapping[str, str] | None = None,
) -> None:
    """Walk a part of a run's graph here; what happens is told to the listeners alone.

    Raises:
        CharkhaError: a step failed.
    """
    engine = LocalEngine(
        graph,
        project,
        run,
        Bus(*listeners),
        workers=workers or project.pipeline.workers,
        contexts=contexts,
        part=part,
        memory=memory,
    )
    loaded.check(engine.files())
    engine.walk()


def memory_of(
    project: Project, graph: Graph, blobs: BlobStore, board: Board | None = None
) -> SharedMemory:
    """Return what all machines that reach the blobs know of this pipeline's steps.

    On one that has never run it, also what the machine knew that has submitted the run of `board`.
    """

    def lent() -> dict[str, Any]:
        return (board.kept(LENT) if board else None) or {}

    here = FileMemory(project.state / "last", graph.pipeline, lent)
    return SharedMemory(blobs, f"{project.name} {graph.pipeline}", here)


def lend(project: Project, run: str) -> None:
    """Have the tasks of a run that was begun know on other machines what this one knows."""
    board = open_board(project, run)
    known = FileMemory(project.state / "last", board.opening().graph.pipeline).all()
    if known and "://" in project.blobs.url:  # with a folder, tasks run where its file is
        board.keep(LENT, known)


def size_of(board: Board, graph: Graph, step: str, artifacts: Artifacts) -> int:
    """Return how many elements a step's fan-out has in this run.

    Raises:
        UserError: a step that makes the list has not finished.
    """
    lists = graph.nodes[step].each.values()
    if not lists:
        raise UserError(f"step {step!r} is no fan-out", fix="run it without --element")
    needed = set(graph.nodes[step].needs())
    made = {need: outputs_of(board, graph, need, artifacts) for need in needed}
    return max(len(elements(resolve(binding, made), artifacts)) for binding in lists)


def outputs_of(board: Board, graph: Graph, step: str, artifacts: Artifacts) -> Outputs:
    """Return what a step returned in this run.

    Raises:
        UserError: it has not finished.
    """
    node, finished = graph.nodes[step], {}
    for line in board.events([step]):
        if isinstance(line.event, StepFinished):
            outputs = line.event.outputs.items()
            finished[line.event.step] = {name: Artifact.from_json(a) for name, a in outputs}
    if not node.each:
        _check_finished(board.run, [step], finished)
        return dict(finished[step])
    names = [f"{step}[{i}]" for i in range(size_of(board, graph, step, artifacts))]
    _check_finished(board.run, names, finished)
    return {output: [finished[name][output] for name in names] for output in node.outputs}


def conclude(project: Project, run: str, because: str | None = None) -> Run:
    """End a run, where nobody has done so before, and write its journal here.

    How it ended is told from its steps; where some are left over, and a person had it stopped
    (`Board.keep("stopped", …)`), it was interrupted.

    Args:
        project: as this machine has it.
        run: its id.
        because: why the engine has given it up, for where no step says so.
    """
    board = open_board(project, run)
    opening = board.opening()
    if board.ended() is None:
        board.end(_ending(project, board, opening, because))
    folder = project.state / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "graph.json", json.dumps(opening.graph.as_json()).encode())
    _write(folder / "journal.jsonl", b"".join(as_bytes(line) + b"\n" for line in board.lines()))
    return read_run(run, project)


def _write(file: Path, data: bytes) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(file)
    except OSError as e:
        raise refused(e, str(file)) from e


def _ending(project: Project, board: Board, opening: Opening, because: str | None) -> RunFinished:
    """Return how a run ended, as its steps tell it."""
    told = Run(board.run, project.state / "runs" / board.run, project)
    last_at = opening.at
    for line in board.lines():
        tell(told, line.event)
        last_at = line.at
    seconds = round(last_at - opening.at, 6)
    if failed := next((s for s in told.steps.values() if s.how == "failed"), None):
        said = str(failed.error)
        # What a step raised names it already; what kept it from being tried does not.
        named = said if said.startswith("step ") else f"step {failed.name!r} failed: {said}"
        return RunFinished("failed", seconds, named)
    try:
        for step in opening.graph.order():
            outputs_of(board, opening.graph, step, open_artifacts(project))
    except UserError as e:
        if board.kept("stopped") is not None:
            return RunFinished("interrupted", seconds, f"stopped in {opening.engine}")
        begun = [s.name for s in told.steps.values() if s.how == "running"]
        unsaid = because or e.what
        if because and not because.startswith(f"{opening.engine} "):
            unsaid = f"{opening.engine}: {because}"
        why = f"the process of step {begun[0]!r} ended without a word" if begun else unsaid
        return RunFinished("failed", seconds, why)
    return RunFinished("failed" if because else "finished", seconds, because)


def _teller(board: Board) -> Listener:
    def tell_board(event: Event) -> None:
        if step := getattr(event, "step", None):
            board.post(step.partition("[")[0], event)

    return tell_board


def _begun(board: Board, steps: Collection[str], element: int | None) -> int:
    """Return how often the steps were begun in this run, that one which was so most often."""
    begun: dict[str, int] = {}
    for line in board.events(steps):
        if isinstance(line.event, StepStarted):
            begun[line.event.step] = begun.get(line.event.step, 0) + 1
    if element is not None:
        (step,) = steps
        return begun.get(f"{step}[{element}]", 0)
    return max(begun.values(), default=0)


def check_steps(graph: Graph, steps: Collection[str], element: int | None = None) -> None:
    """Check that a graph has these steps.

    Raises:
        UserError: it has not, or an element is asked of a step that is no fan-out.
    """
    for step in steps:
        if step not in graph.nodes:
            meant = nearest(step, graph.nodes)
            raise UserError(
                f"the pipeline has no step {step!r}",
                fix=f"did you mean {meant!r}?" if meant else f"it has: {', '.join(graph.nodes)}",
            )
    if element is not None and (len(steps) > 1 or not graph.nodes[next(iter(steps))].each):
        raise UserError("--element is for one step that is a fan-out", fix="leave it out")


def _check_finished(run: str, names: list[str], finished: Collection[str]) -> None:
    if missing := [name for name in names if name not in finished]:
        raise UserError(
            f"step {missing[0]!r} has not finished in run {run}",
            fix=f"charkha step run --run {run} --step {missing[0].partition('[')[0]}",
        )
