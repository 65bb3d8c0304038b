"""What Python itself tells of a step: files opened, folders listed, variables read, and by whom.

An audit hook cannot be taken out again, so it stays for the life of the process and notes something
only while a step runs or the project is imported. What is read at import is noted with the line
that reads it: the result of that line is in memory, and no step will open the file itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from types import CodeType, FrameType

SKIPPED = frozenset(
    {".charkha", ".git", ".dvc", ".venv", "venv", "__pycache__", "site-packages", "node_modules"}
    | {".pytest_cache", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints", ".idea", ".vscode"}
)
_NOT_A_DEPENDENCY = (".pyc", ".pyo", ".so")
_ENVIRON_MODULES = ("os", "collections.abc")  # through which os.getenv and .get go
_BULK = 32  # variables read at one place in the code, or all of them: it copies the environment
_FEW = 8  # never a copy, even where there are no more
_STARTS_A_PROCESS = frozenset(
    {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "os.exec"}
)
_LOOK_EVERY = 2_000  # files opened; the kernel's queue holds 16,384 events

Place = tuple[int, int]  # code object, instruction


class Seen:
    """The raw notes of the hooks on one step; sorted out when the step is over."""

    def __init__(self, root: str, modules: set[str]) -> None:
        self.root = root
        self.modules = modules
        self.began_ns = time.time_ns()
        self.opened: list[tuple[str, bool]] = []  # path, for writing
        self.databases: set[str] = set()  # opened by SQLite, which does not say whether to write
        self.listed: list[str] = []
        self.reads: dict[Place, dict[str, str | None]] = {}  # variable -> digest
        self.variables = len(os.environ)
        self.lost = False  # files were opened that nobody could note
        self._folders: dict[str, str] = {}  # folder as it was called -> where it really is

    def files(self, known: set[str]) -> tuple[set[str], set[str]]:
        """Return the files read and the files written, relative to the project."""
        read: set[str] = set()
        written: set[str] = set()
        for path, for_writing in self.opened:
            relative = self.inside(path)
            if relative is None or path in known:
                continue
            full = os.path.join(self.root, relative)
            if full in known or os.path.isdir(full) or relative.endswith(_NOT_A_DEPENDENCY):
                continue
            if _is_loaded_source(full):
                continue
            wrote = for_writing or (path in self.databases and self.is_younger(relative))
            (written if wrote else read).add(relative)
        return read, written

    def folders(self) -> set[str]:
        found = {self.inside(path) for path in self.listed}
        return {name for name in found if name is not None}

    def env(self) -> dict[str, str | None]:
        copied = min(_BULK, max(_FEW, self.variables))
        found: dict[str, str | None] = {}
        for names in list(self.reads.values()):
            if len(names) < copied:
                found |= names
        return found

    def inside(self, path: str) -> str | None:
        """Return a path relative to the project, None where it leads elsewhere."""
        if not path.startswith(self.root + os.sep) and path != self.root:
            folder, name = os.path.split(path)
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
            path = os.path.join(self._folders[folder], name)
        return inside(self.root, path)

    def is_younger(self, name: str) -> bool:
        """Whether a file was written after the step began.

        A kernel may round the time of a write down to its last tick, so a write in the step's first
        milliseconds can go unseen. The other error would be worse: a step that begins right after
        its files were made would never be reused.
        """
        try:
            return os.stat(os.path.join(self.root, name)).st_mtime_ns > self.began_ns
        except OSError:
            return False


class AtImport:
    """What the project's modules read while they were imported."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[object, set[tuple[int, str, str]]]] = {}

    def note(self, frame: FrameType | None, root: str, kind: str, name: str) -> None:
        """Note a file ("files") or variable ("env") if a module of the project is being imported."""
        while frame is not None:
            module = frame.f_globals
            if str(module.get("__name__")).startswith("charkha."):
                return
            if frame.f_code.co_name == "<module>" and _is_first_party(frame.f_code, root):
                file, spec = frame.f_code.co_filename, module.get("__spec__")
                before = self._read.get(file)
                if before is None or before[0] is not spec:  # imported again: all is new
                    before = self._read[file] = (spec, set())
                before[1].add((frame.f_lineno, kind, name))
                return
            frame = frame.f_back

    def within(self, spans: Mapping[str, list[tuple[int, int]]]) -> set[tuple[str, str]]:
        """Return (kind, name) of what was read by these lines of these files."""
        return {
            (kind, name)
            for file in spans.keys() & self._read.keys()
            for line, kind, name in self._read[file][1]
            if any(first <= line <= last for first, last in spans[file])
        }


class Hook:
    """Where the hooks find whom to tell."""

    seen: Seen | None = None  # the step that is observed
    importing: str | None = None  # the root of the project that is being imported
    at_import = AtImport()  # while the project was imported: before any key is made
    late = AtImport()  # while a step ran
    before_a_child: Callable[[], None] | None = None  # a process is started: it reads unseen
    look: Callable[[], None] | None = None  # empties the kernel's queue
    _installed = False

    @classmethod
    def install(cls) -> None:
        if cls._installed:
            return
        cls._installed = True
        sys.addaudithook(_on_event)
        environ = type(os.environ)
        environ.__getitem__ = _noting(environ.__getitem__)  # type: ignore[method-assign]
        os.register_at_fork(after_in_child=cls.forget)

    @classmethod
    def forget(cls) -> None:
        """Observe nothing any more: what a child notes would not come back."""
        cls.seen = cls.importing = cls.before_a_child = cls.look = None


@contextmanager
def importing(root: str) -> Iterator[None]:
    """Note what the project's modules read while they are imported inside."""
    Hook.install()
    Hook.importing = root
    try:
        yield
    finally:
        Hook.importing = None


def _on_event(event: str, args: tuple[object, ...]) -> None:
    seen = Hook.seen
    if seen is None and Hook.importing is None:
        return
    if event == "open":
        path, mode, flags = args
        if isinstance(path, str | bytes | os.PathLike):
            writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
            _opened(seen, absolute(path), writes or _writes(mode))
    elif seen is None:
        return
    elif event == "sqlite3.connect":
        database = _database(args[0])
        if database is not None:
            seen.databases |= {database, f"{database}-wal"}
            seen.opened += [(p, False) for p in (database, f"{database}-wal") if os.path.exists(p)]
    elif event in ("os.rename", "os.link", "os.symlink"):
        seen.opened.append((absolute(args[1]), True))
    elif event in ("os.listdir", "os.scandir") and not _is_import_system(sys._getframe(1)):
        seen.listed.append(absolute(args[0] if args and args[0] is not None else "."))
    elif event in _STARTS_A_PROCESS and Hook.before_a_child is not None:
        Hook.before_a_child()


def _opened(seen: Seen | None, path: str, writes: bool) -> None:
    if seen is not None:
        seen.opened.append((path, writes))
        if Hook.look is not None and len(seen.opened) % _LOOK_EVERY == 0:
            Hook.look()
    root = seen.root if seen is not None else str(Hook.importing)
    if writes or not path.startswith(root) or path.endswith((".py", ".pyc")):
        return
    name = inside(root, path)
    if name is not None:
        _reads_at_import().note(sys._getframe(2), root, "files", name)


def _reads_at_import() -> AtImport:
    return Hook.at_import if Hook.seen is None else Hook.late


def _noting(getitem: Callable[..., str]) -> Callable[..., str]:
    def noting(environ: object, name: str) -> str:
        seen = Hook.seen
        root = Hook.importing if seen is None else seen.root
        if root is None:
            return getitem(environ, name)
        value: str | None = None
        try:
            value = getitem(environ, name)
        finally:
            frame = sys._getframe(1)
            place = _place_of_ours(frame, root)
            if place is not None and isinstance(name, str):
                _reads_at_import().note(frame, root, "env", name)
                if seen is not None:
                    seen.reads.setdefault(place, {}).setdefault(name, value_digest(value))
        return value

    return noting


def _place_of_ours(frame: FrameType | None, root: str) -> Place | None:
    """Return where the project's own code asked, None where a library did."""
    while frame is not None and frame.f_globals.get("__name__") in _ENVIRON_MODULES:
        frame = frame.f_back
    if frame is None or not _is_first_party(frame.f_code, root):
        return None
    return id(frame.f_code), frame.f_lasti


def _is_import_system(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("importlib")


def _is_first_party(code: CodeType, root: str) -> bool:
    name = code.co_filename
    return name.startswith(root + os.sep) and f"{os.sep}site-packages{os.sep}" not in name


def absolute(path: object) -> str:
    """Return the absolute path, "" where it is none."""
    if type(path) is str and path[:1] == "/" != path[-1:] and "/." not in path and "//" not in path:
        return path  # as most are; abspath takes 2 µs to find that out
    with suppress(TypeError, ValueError):
        return os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
    return ""


def _database(name: object) -> str | None:
    """Return the path of what sqlite3.connect was given, None of a database in memory."""
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    if text.startswith("file:"):
        text, _, options = text.removeprefix("file:").partition("?")
        text = "" if "mode=memory" in options else text.removeprefix("//")
    return None if text in ("", ":memory:") else absolute(text)


def _writes(mode: object) -> bool:
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def inside(root: str, path: str) -> str | None:
    """Return a path relative to the project; None outside of it, and in tools' folders."""
    if not path.startswith(root + os.sep):
        return None if path != root else "."
    if path.startswith(sys.prefix + os.sep) and sys.prefix.startswith(root):
        return None  # an environment inside of the project, whatever it is called
    relative = path[len(root) + 1 :]
    return None if SKIPPED.intersection(relative.split(os.sep)) else relative


def _is_loaded_source(path: str) -> bool:
    """Whether it is a module's file: modules count by their meaning and not by their bytes."""
    return path.endswith(".py") and any(
        getattr(module, "__file__", None) == path for module in list(sys.modules.values())
    )


def value_digest(value: str | None) -> str | None:
    """Return the digest of a variable's value, which may be a secret and is never kept."""
    if value is None:
        return None
    return sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:32]
