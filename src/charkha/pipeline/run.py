"""One run: find the pipeline, trace it with its parameters, walk the graph, record everything."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charkha.errors import CharkhaError, ProjectError
from charkha.events import Bus, Listener, RunFinished, RunStarted
from charkha.pipeline import hooks, loaded
from charkha.pipeline.distributions import install_line
from charkha.pipeline.engines.local import LocalEngine
from charkha.pipeline.graph import Graph
from charkha.pipeline.journal import Journal
from charkha.pipeline.parameters import parsed
from charkha.pipeline.runs import Run, tell
from charkha.pipeline.steps import Pipeline
from charkha.pipeline.units import revive
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project


def run(
    pipeline: Pipeline[Any, Any] | None = None,
    /,
    *,
    project: Project | None = None,
    params: Mapping[str, object] | None = None,
    workers: int | None = None,
    listeners: Iterable[Listener] = (),
    contexts: Mapping[str, str] | None = None,
) -> Run:
    """Run a pipeline; what ran before with the same inputs and the same code is reused.

    Args:
        pipeline: by default the one that `[pipeline] entry` of charkha.toml names.
        project: by default the one around the current folder.
        params: parameters of the pipeline; text is read as the parameter's type.
        workers: how many processes may run steps at the same time.
        listeners: called with every event, after the journal has it.
        contexts: what to capture around each step -> "module:function", entered in its process.

    Raises:
        CharkhaError: the definition is wrong or a step failed; `Run.failure` of a listener's run
            has it as well.
    """
    project = project or open_project()
    pipeline = pipeline or load_pipeline(project)
    given = parsed(pipeline, {**project.pipeline.params, **(params or {})}, project)
    graph = pipeline.trace(given, project)
    journal = Journal(project.state / "runs")
    told = Run(journal.run, journal.folder, project)
    bus = Bus(journal, lambda event: tell(told, event), *listeners)
    began = time.perf_counter()
    told.started_at = time.time()
    try:
        (journal.folder / "graph.json").write_text(json.dumps(graph.as_json()))
        bus.emit(started(journal.run, graph, project))
        engine = LocalEngine(
            graph,
            project,
            journal.run,
            bus,
            workers=workers or project.pipeline.workers,
            contexts=contexts,
        )
        loaded.check(engine.files())
        engine.walk()
        bus.emit(RunFinished("finished", _since(began)))
    except KeyboardInterrupt:
        bus.emit(RunFinished("interrupted", _since(began), "stopped by Ctrl-C"))
        raise
    except CharkhaError as e:
        bus.emit(RunFinished("failed", _since(began), e.what))
        raise
    finally:
        journal.close()
    return told


def load_pipeline(project: Project) -> Pipeline[Any, Any]:
    """Import the project's file and return the pipeline that `[pipeline] entry` names.

    Raises:
        ProjectError: there is no such file or pipeline, or the file cannot be imported.
    """
    file, _, name = project.pipeline.entry.partition(":")
    path = project.root / file
    if not path.is_file():
        raise ProjectError(
            f"there is no file {file}",
            where="charkha.toml",
            fix='set entry = "your_file.py:your_pipeline" under [pipeline]',
        )
    if str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))
    module = _imported(path, project.root)
    found = {k: v for k, v in vars(module).items() if isinstance(v, Pipeline)}
    if name and name not in found:
        raise ProjectError(
            f"no pipeline is called {name!r}",
            where=file,
            fix=f"its pipelines are: {', '.join(found) or 'none'}",
        )
    if not name and len(found) != 1:
        raise ProjectError(
            f"has {len(found)} pipelines{': ' if found else ''}{', '.join(found)}",
            where=file,
            fix=f'set entry = "{file}:{next(iter(found), "your_pipeline")}" under [pipeline], '
            "or mark a function with @pipeline",
        )
    return found[name] if name else next(iter(found.values()))


def _imported(path: Path, root: Path) -> object:
    module = ".".join(path.relative_to(root).with_suffix("").parts)
    try:
        with hooks.importing(str(root)):
            imported = importlib.import_module(module)
    except CharkhaError:
        raise
    except Exception as e:
        raise ProjectError(
            f"cannot be imported: {type(e).__name__}: {e}",
            where=_line_in(e, root) or path.name,
            fix=_install(e, root) or f"mend the file; `python {path.name}` shows the traceback",
        ) from e
    taken_by = getattr(imported, "__file__", None)
    if taken_by is None or not os.path.samefile(taken_by, path):
        raise ProjectError(
            f"the name {module!r} is taken by {taken_by or 'a part of Python'}",
            where=path.name,
            fix="give the file another name; or, for another project, start a new Python",
        )
    return imported


def _install(error: Exception, root: Path) -> str | None:
    """Return what to type for a module that is not there; None where that is not what is wrong."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    package = (name or "charkha").partition(".")[0]
    if name is None or package == "charkha" or (root / package).is_dir() or find_spec(package):
        return None
    line = install_line(name)
    return line if "charkha[" in line else f"{line}; if it is yours: put {name}.py in {root}"


def _line_in(error: BaseException, root: Path) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename, root)}:{error.lineno}"
    found, place = None, error.__traceback__
    while place is not None:
        file = place.tb_frame.f_code.co_filename
        if file.startswith(f"{root}{os.sep}") and "site-packages" not in file:
            found = f"{os.path.relpath(file, root)}:{place.tb_lineno}"
        place = place.tb_next
    return found


def started(run: str, graph: Graph, project: Project) -> RunStarted:
    """Return the event that begins a run of this graph; its data are held as they are now."""
    return RunStarted(
        run=run,
        project=project.name,
        pipeline=graph.pipeline,
        environment=project.environment,
        params=graph.params,
        steps=graph.order(),
        datasets=_datasets(graph, project),
        commit=git_commit(project.root),
        dirty=False,
        user=os.environ.get("USER") or str(os.getuid()),  # getpass costs 3 ms
        host=os.uname().nodename,
        pid=os.getpid(),
    )


def _datasets(graph: Graph, project: Project) -> dict[str, str]:
    """Return the data that a run begins with, and hold its steps to that."""
    found: dict[str, str] = {}
    described: dict[str, dict[str, object]] = {}
    for binding in graph.sources():
        given = json.dumps(binding, sort_keys=True)
        if given not in described:
            source = revive(binding, project)
            if type(source).__name__ not in ("Dataset", "Labelled"):
                continue
            fingerprint = source.fingerprint({})
            if fingerprint != "none":  # of predictions whose truth has come there are none yet
                found[source.name] = fingerprint
            described[given] = source.describe()
        binding.update(described[given])
    return found


def git_commit(root: Path) -> str | None:
    """Return the commit that is checked out, read from the files of git; None outside of git."""
    for folder in (root, *root.parents):
        git = folder / ".git"
        if git.is_dir():
            return _commit(git)
    return None


def _commit(git: Path) -> str | None:
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = git / head[5:]
        if ref.is_file():
            return ref.read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {head[5:]}")), None)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 6)
