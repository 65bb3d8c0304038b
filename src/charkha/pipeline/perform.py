"""One step, performed: inputs loaded, the function called and observed, outputs kept, committed.

This is what every engine runs, in its own process or in a worker. The order makes a kill harmless at
any line: first the bytes of the outputs, then the entry that names them, then the journal.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast, get_type_hints

from charkha.data.blobs import open_blobs
from charkha.data.digests import FileDigests
from charkha.errors import CharkhaError, Damaged, StepFailed, UserError
from charkha.pipeline.artifacts import Artifact, Artifacts
from charkha.pipeline.cache import Cache, Entry
from charkha.pipeline.graph import Binding
from charkha.pipeline.journal import open_lock
from charkha.pipeline.modules import Sources
from charkha.pipeline.observe import Observed, Observer, World
from charkha.pipeline.steps import functions
from charkha.pipeline.units import revive
from charkha.pipeline.values import Dir, Source

if TYPE_CHECKING:
    from charkha.project import Project

Context = Callable[["Project", str, str, Path], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What performing a step brought."""

    how: str  # "ran" | "shared"
    outputs: dict[str, Artifact]
    captured: dict[str, Artifact]
    seconds: float
    notices: tuple[str, ...] = ()


class Bench:
    """Everything that steps of one run need in this process."""

    def __init__(self, project: Project, run: str, contexts: Mapping[str, str]) -> None:
        self.project, self.run = project, run
        self.folder = project.state / "runs" / run
        blobs = open_blobs(project)
        self.artifacts = Artifacts(
            blobs, project.state / "files", allow_pickle=project.allow_pickle
        )
        self.sources = Sources(str(project.root))
        self.digests = FileDigests(project.state)
        self.world = World(project.root, self.digests, self.sources)
        self.cache = Cache(blobs, self.artifacts, self.world)
        self._observer = Observer(project.root)
        self._contexts = contexts  # what it captures -> "module:function"

    def close(self) -> None:
        """Write down what was learned, and observe nothing any more."""
        self.digests.save()
        self._observer.close()

    def perform(self, task: Mapping[str, Any]) -> Outcome:
        """Perform a step, or take over what another run computed while we waited for it.

        Raises:
            StepFailed: its code raised, or returned what it was not declared to return.
            Damaged: an input's bytes are not those that were stored.
        """
        if not task["cache"]:
            return self._compute(task)
        with _claimed(self.project.state / "locks", str(task["key"])) as waited:
            if waited and (entry := self.cache.look_up(str(task["key"])).entry):
                return Outcome(
                    how="shared",
                    outputs=entry.outputs,
                    captured=entry.captured,
                    seconds=entry.seconds,
                )
            return self._compute(task)

    def _compute(self, task: Mapping[str, Any]) -> Outcome:
        step = str(task["step"])
        if task["native"]:
            self._observer.watch_native_readers()
        try:
            function = find_function(str(task["function"]))
            arguments, known = self._loaded(task["arguments"], function)
        except Damaged:
            raise
        except CharkhaError as e:
            raise _failed(step, e, self.project.root, None) from e
        log = _Log(self.folder / "logs" / f"{step}.log", sys.stdout)
        capture = self.folder / "captured" / step
        with log:
            started = time.perf_counter()
            with self._observer.watching() as seen:
                returned = self._call(step, function, arguments, capture, log)
            seconds = round(time.perf_counter() - started, 6)
            try:
                outputs = self._kept(task["outputs"], returned, function)
            except UserError as e:
                raise _failed(step, e, self.project.root, log) from e
        observed, unsettled = self._observer.conclude(
            seen, self.world, self.sources, known, set(task["files"])
        )
        unsettled += _written_since(known, task["asked_ns"], self.project.root)
        entry = Entry(
            key=str(task["key"]),
            step=step,
            run=self.run,
            outputs=outputs,
            captured=self._captured(capture),
            observed=observed,
            seconds=seconds,
        )
        if task["cache"] and not unsettled and not seen.lost:
            self.cache.commit(entry)
        self.digests.save()
        return Outcome(
            how="ran",
            outputs=outputs,
            captured=entry.captured,
            seconds=seconds,
            notices=(*_hints(observed, unsettled, seen.lost), *self._observer.notices()),
        )

    def _loaded(
        self, arguments: Mapping[str, Binding], function: Callable[..., object]
    ) -> tuple[dict[str, object], list[str]]:
        """Return the arguments' values, and the paths of the files that are declared by them."""
        wanted = _declared_types(function)
        known: list[str] = []
        loaded = {}
        for name, binding in arguments.items():
            loaded[name] = self._load(binding, wanted.get(name), known)
        return loaded, known

    def _load(self, binding: Binding, wanted: type | None, known: list[str]) -> object:
        if isinstance(items := binding.get("list"), list):
            return [self._load(item, None, known) for item in items]
        if isinstance(named := binding.get("dict"), dict):
            return {key: self._load(item, None, known) for key, item in named.items()}
        if "artifact" in binding:
            kept = cast("dict[str, object]", binding["artifact"])
            return self.artifacts.load(Artifact.from_json(kept), wanted)
        if "source" in binding:
            source = revive(binding, self.project)
            known += _paths(source)
            return source.load(wanted)
        return self.artifacts.plain(str(binding["value"]))

    def _call(
        self,
        step: str,
        function: Callable[..., object],
        arguments: dict[str, object],
        capture: Path,
        log: _Log,
    ) -> object:
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(cast("TextIO", log)))
            for name, path in self._contexts.items():
                context = cast("Context", _attribute(path))
                stack.enter_context(context(self.project, self.run, step, capture / name))
            try:
                return function(**arguments)
            except Damaged as e:  # raised by user code that loads by itself: not our input
                raise _failed(step, e, self.project.root, log) from e
            except Exception as e:  # any exception of the user's code ends the step
                raise _failed(step, e, self.project.root, log) from e

    def _kept(
        self, names: list[str], returned: object, function: Callable[..., object]
    ) -> dict[str, Artifact]:
        values = _named(names, returned)
        declared = _declared_outputs(function, len(names))
        for name, kind in zip(names, declared, strict=True):
            _check_type(name, values[name], kind)
        return {name: self.artifacts.save(values[name]) for name in names}

    def _captured(self, folder: Path) -> dict[str, Artifact]:
        return {
            name: self.artifacts.save(Dir(folder / name))
            for name in self._contexts
            if (folder / name).is_dir()
        }


class _Log(io.TextIOBase):
    """Copies what a step prints into its file, which is made at the first word."""

    def __init__(self, path: Path, terminal: TextIO) -> None:
        self.path, self._terminal = path, terminal
        self._file: TextIO | None = None

    def write(self, text: str) -> int:
        self.keep(text)
        return self._terminal.write(text)

    def keep(self, text: str) -> None:
        """Write to the file alone."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(text)

    def flush(self) -> None:
        self._terminal.flush()

    def writable(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _failed(step: str, error: BaseException, root: Path, log: _Log | None) -> StepFailed:
    failures = import_module("charkha.pipeline.failures")  # late: most runs have none
    found: StepFailed = failures.failed(step, error, root)
    if log is not None:
        log.keep(failures.full_text(error))
        found = failures.with_log(found, os.path.relpath(log.path, root))
    return found


def find_function(reference: str) -> Callable[..., object]:
    """Return the plain function of a step from "module:qualname".

    Raises:
        UserError: it cannot be imported here.
    """
    if reference not in functions:
        module, _, name = reference.partition(":")
        try:
            import_module(module)
        except ModuleNotFoundError as e:
            raise UserError(
                f"the module {module!r} of step {name!r} cannot be imported in a worker",
                fix="define steps in a file of the project",
            ) from e
    if reference not in functions:
        raise UserError(
            f"{reference} is no step any more", fix="define steps at the top level of a module"
        )
    return functions[reference]


@contextmanager
def _claimed(folder: Path, key: str) -> Iterator[bool]:
    """Compute a key alone among all processes of this machine; True where we had to wait for it.

    The claim is a lock of the kernel's, so whoever is killed gives it back. Its file is removed by
    the one who holds it, hence the look whether the file is still the one that was locked.
    """
    path = folder / key
    waited = False
    while True:
        try:
            lock = open_lock(path)
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_still(lock, path):
            break
        os.close(lock)
    try:
        yield waited
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _is_still(lock: int, path: Path) -> bool:
    try:
        return os.fstat(lock).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False


def _named(names: list[str], returned: object) -> dict[str, object]:
    if len(names) == 1:
        return {names[0]: returned}
    if isinstance(returned, dict) and set(returned) == set(names):
        return returned
    if isinstance(returned, tuple | list) and len(returned) == len(names):
        return dict(zip(names, returned, strict=True))
    what = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
    raise UserError(
        f"it returned {what} where {len(names)} outputs are declared: {', '.join(names)}",
        fix=f"return {', '.join(names)} as a tuple, in this order",
    )


def _declared_types(function: Callable[..., object]) -> dict[str, type]:
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # an annotation for the type checker alone
        hints = {}
    return {name: kind for name, kind in hints.items() if isinstance(kind, type)}


def _declared_outputs(function: Callable[..., object], count: int) -> list[type | None]:
    try:
        declared = get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        declared = None
    if count == 1:
        return [declared if isinstance(declared, type) else None]
    kinds = getattr(declared, "__args__", ())
    if len(kinds) != count:
        return [None] * count
    return [kind if isinstance(kind, type) else None for kind in kinds]


def _check_type(name: str, value: object, declared: type | None) -> None:
    if declared is None or declared is object or isinstance(value, declared):
        return
    if declared in (float, complex) and isinstance(value, int | float):  # PEP 484's numeric tower
        return
    output = "" if name == "result" else f" as {name!r}"
    raise UserError(
        f"it returned a {type(value).__name__}{output}, declared is {declared.__name__}",
        fix="correct the return value, or the annotation after ->",
    )


def _hints(observed: Observed, unsettled: list[str], lost: bool) -> Iterator[str]:
    if lost:
        yield "opened more files at once than the kernel notes, so the result is not kept for reuse"
    for name in unsettled:
        yield f"{name} changed while the step read it, so the result is not kept for reuse"
    for name in observed.files:
        yield f'reads {name} without declaring it; File("{name}") as an argument would say so'
    for name in observed.env:
        yield f'reads the variable {name}; @step(env=("{name}",)) would say so'


def _written_since(paths: list[str], asked_ns: int, root: Path) -> list[str]:
    """Return the declared files that were written after the key had counted them."""
    found = []
    for path in paths:
        with suppress(OSError):
            if os.stat(path).st_mtime_ns > asked_ns:
                found.append(os.path.relpath(path, root))
    return found


def _paths(source: Source) -> list[str]:
    path = getattr(source, "path", None)
    if not isinstance(path, Path):
        return []
    if path.is_dir():
        return [str(p) for p in path.rglob("*")]
    return [str(path)]


def _attribute(path: str) -> object:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
