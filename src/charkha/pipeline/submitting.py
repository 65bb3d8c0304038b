"""A run on another engine: begun here, handed over, followed until it ends, and found again later."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from time import sleep
from typing import TYPE_CHECKING, Any

from charkha.errors import CharkhaError, NotFound, Unavailable, UserError
from charkha.events import Bus, Listener, Noticed
from charkha.pipeline.boards import open_board
from charkha.pipeline.engines.port import ENDED, Engine, EngineState, Handle, open_engine
from charkha.pipeline.journal import Line, new_id
from charkha.pipeline.plans import plan
from charkha.pipeline.run import load_pipeline
from charkha.pipeline.runs import ENGINE_FILE, Run, tell
from charkha.pipeline.tasks import begin, conclude, lend
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.pipeline.steps import Pipeline
    from charkha.project import Project

_LOOK_S = 0.5  # where no engine is asked; else its abilities say
_PATIENCE_S = 60.0  # with an engine that does not answer while its run is followed
_GRACE_S = 30.0  # for the last task to say how the run ended, after the engine has said so


def submit(
    project: Project,
    engine: str,
    *,
    params: Mapping[str, object] | None = None,
    pipeline: Pipeline[Any, Any] | None = None,
    run: str | None = None,
) -> str:
    """Begin a run and have an engine start its tasks; return the run's id.

    Args:
        project: as this machine has it.
        engine: its name.
        params: as for `charkha.run`.
        pipeline: by default the one that charkha.toml names.
        run: the id, for who may have to ask again: what the engine took under it before is not
            started a second time, and what it could not be asked for then goes on.

    Raises:
        CharkhaError: the definition is wrong, or the engine refuses it or does not answer.
    """
    asked_again = run is not None
    if run is not None and is_taken(project, run):
        return run
    if run is not None and _has_ended(project, run):
        return conclude(project, run).id  # its journal, where another machine has submitted it
    pipeline = pipeline or load_pipeline(project)
    chosen = open_engine(project, engine)
    planned = plan(pipeline, project, params or {})
    run = run or new_id()
    begin(project, run, params or {}, engine=engine, pipeline=pipeline)
    lend(project, run)
    keep(project, run, engine, None)  # first: who is killed in between has begun a run all the same
    try:
        keep(project, run, engine, chosen.submit(planned, run))
    except CharkhaError as e:
        if asked_again and isinstance(e, Unavailable):
            raise
        conclude(project, run, because=f"{engine} did not take it: {e.what}")
        raise
    except KeyboardInterrupt:
        if not asked_again:
            _stop(project, run)
        raise
    return run


def check_is_for(project: Project, run: str, engine: str) -> None:
    """Check that a run of this id, where there is one here, is the engine's.

    Raises:
        UserError: it is another one's, or was performed by none.
    """
    folder = project.state / "runs" / run
    try:
        kept = json.loads((folder / ENGINE_FILE).read_bytes())
    except FileNotFoundError:
        if (folder / "journal.jsonl").exists() and not _is_on_a_board(project, run):
            raise UserError(
                f"run {run} was begun without --on",
                fix=f"charkha runs {run}; or give another id, or none",
            ) from None
        return
    if kept["handle"] is not None and kept["engine"] != engine:
        raise UserError(
            f"run {run} is on {kept['engine']}, not on {engine}",
            fix=f"charkha run --on {kept['engine']} --run {run}",
        )


def found(project: Project, run: str, engine: str, handle: Handle) -> None:
    """Have `charkha runs` find a run here that the engine has started by itself."""
    try:
        _engine_of(project, run)
    except (NotFound, Unavailable):
        keep(project, run, engine, handle)


def follow(
    project: Project,
    run: str,
    listeners: Iterable[Listener] = (),
    *,
    patience_s: float = _PATIENCE_S,
) -> Run:
    """Hand on what happens to a run, as it happens; return it when it has ended.

    Raises:
        Unavailable: the engine has not answered for `patience_s`; the run goes on without us.
    """
    board = open_board(project, run)
    opening = board.opening()
    told = Run(run, project.state / "runs" / run, project)
    told.started_at = opening.at
    bus = Bus(lambda event: tell(told, event), *listeners)
    bus.emit(opening.started)
    over = not is_taken(project, run) and board.ended() is not None
    asking = None if over else _Asking(project, run, bus, patience_s)
    seen: set[str] = set()
    while True:
        # Asked first: what was told before it ended is read below.
        state = asking.ask() if asking else None
        for line in board.events():
            if (text := repr(line)) not in seen:
                seen.add(text)
                bus.emit(line.event)
        if state is None:
            end = board.ended()  # by its last task, for all that its engine is silent
        else:
            end = _ended(project, run, state) if state.status in ENDED else None
        if end is not None:
            break
        sleep(asking.look_s if asking else _LOOK_S)
    bus.emit(end.event)
    return told


class _Asking:
    """Asks an engine how far it is with a run, and again where it does not answer."""

    def __init__(self, project: Project, run: str, bus: Bus, patience_s: float) -> None:
        self._run, self._bus, self._patience_s = run, bus, patience_s
        self._name = open_board(project, run).opening().engine
        self._engine, self._handle = _engine_of(project, run)
        self.look_s = self._engine.abilities.look_s
        self._answered_at = time.monotonic()
        self._silent = False

    def ask(self) -> EngineState | None:
        """Return what the engine says; None where it has said nothing, for not too long yet."""
        try:
            state = self._engine.state(self._handle)
        except Unavailable as e:
            silent_s = time.monotonic() - self._answered_at
            if silent_s > self._patience_s:
                raise Unavailable(
                    f"{e.what}, for {silent_s:.0f} s; run {self._run} goes on without us",
                    fix=f"charkha runs {self._run}, or to follow it again: "
                    f"charkha run --on {self._name} --run {self._run}",
                ) from e
            if not self._silent:
                self._bus.emit(Noticed(f"{e.what}; it is asked again for {self._patience_s:g} s"))
            self._silent = True
            return None
        self._answered_at, self._silent = time.monotonic(), False
        return state


def cancel(project: Project, run: str) -> Run:
    """Have the engine stop a run, and end it as interrupted."""
    engine, handle = _engine_of(project, run)
    return _stop(project, run, lambda: engine.cancel(handle))


def _stop(project: Project, run: str, cancel: Callable[[], None] = lambda: None) -> Run:
    """End a run as interrupted by a person; first it is said so, for tasks that end it then."""
    open_board(project, run).keep("stopped", {"by": os.environ.get("USER") or str(os.getuid())})
    cancel()
    return conclude(project, run)


def look(project: Project, run: str) -> Run:
    """Return a run on another engine as it is now; one that the engine has ended is concluded.

    Raises:
        NotFound: its board is gone.
    """
    project = _as_it_was_for(project, run)
    board = open_board(project, run)
    told = Run(run, project.state / "runs" / run, project)
    lines = board.lines()
    told.started_at = lines[0].at
    for line in lines:
        tell(told, line.event)
    if told.status != "running":
        return conclude(project, run)  # its journal, for the next time
    told.seconds = time.time() - told.started_at
    try:
        engine, handle = _engine_of(project, run)
        state = engine.state(handle)
    except CharkhaError as e:
        told.notices.append(f"how far it is, is not known: {e.what}")
        return told
    if state.status in ENDED:
        tell(told, _ended(project, run, state).event)
    return told


def _ended(project: Project, run: str, state: EngineState) -> Line:
    """Return how a run ended whose engine says that it has; its last task may still be telling."""
    board = open_board(project, run)
    given_up = state.because or f"{board.opening().engine} says that it failed"
    until = time.monotonic() + (_GRACE_S if state.status == "finished" else 0.0)
    while (end := board.ended()) is None:
        if time.monotonic() > until:
            if state.status == "interrupted":
                board.keep("stopped", {"by": board.opening().engine})
            conclude(project, run, given_up if state.status == "failed" else None)
        else:
            sleep(_LOOK_S)
    return end


def keep(project: Project, run: str, engine: str, handle: Handle | None) -> None:
    """Keep in a run's folder which engine has it, and how it is found there."""
    file = project.state / "runs" / run / ENGINE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    kept = {"engine": engine, "environment": project.environment, "handle": handle}
    partial.write_text(json.dumps(kept))
    partial.replace(file)


def ask(project: Project, run: str) -> EngineState:
    """Ask the engine that has taken a run how far it is.

    Raises:
        CharkhaError: it does not answer, or knows of no such run.
    """
    engine, handle = _engine_of(project, run)
    return engine.state(handle)


def is_taken(project: Project, run: str) -> bool:
    """Whether an engine has taken a run, as far as is known here."""
    try:
        _engine_of(project, run)
        return True
    except (NotFound, Unavailable):
        return False


def _is_on_a_board(project: Project, run: str) -> bool:
    try:
        open_board(project, run).opening()
        return True
    except NotFound:
        return False


def _has_ended(project: Project, run: str) -> bool:
    try:
        return open_board(project, run).ended() is not None
    except NotFound:
        return False


def _as_it_was_for(project: Project, run: str) -> Project:
    """Return the project in the environment that a run was submitted in: its blobs, its engine."""
    kept = json.loads((project.state / "runs" / run / ENGINE_FILE).read_bytes())
    environment = kept.get("environment", project.environment)
    if environment == project.environment:
        return project
    return open_project(project.root, environment)


def _engine_of(project: Project, run: str) -> tuple[Engine, Handle]:
    try:
        kept = json.loads((project.state / "runs" / run / ENGINE_FILE).read_bytes())
    except FileNotFoundError as e:
        raise NotFound(f"run {run} was not submitted from here") from e
    if kept["handle"] is None:
        raise Unavailable(f"{kept['engine']} has not said that it took run {run}")
    return open_engine(project, kept["engine"]), kept["handle"]
