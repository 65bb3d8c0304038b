"""What a step takes from its surroundings without saying so: files, folders, variables, modules.

Three observers at once. Python's audit hook sees what Python opens and lists; the kernel's inotify
sees what native readers open; `os.environ` tells which variables the project's own code asks for.
What was seen becomes part of what the result is valid for: World says how the same things are now.
A file that the step itself wrote is a product and not a dependency.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from charkha.data.digests import FileDigests
from charkha.errors import DataError
from charkha.pipeline.code import module_digest
from charkha.pipeline.devices import CUDA, HIP, SHARE
from charkha.pipeline.hooks import SKIPPED, Hook, Seen, value_digest
from charkha.pipeline.inotify import Watch
from charkha.pipeline.modules import Sources

# The kernel does not say who opened a file. Native readers read data; these files are read by Python,
# whose hook sees it, and by editors, git and our own tracker, which are none of the step's business.
_NOT_FOR_READERS = (
    ".py",
    ".pyi",
    ".toml",
    ".dvc",
    ".md",
    ".rst",
    ".cfg",
    ".ini",
    ".lock",
    ".ipynb",
)


@dataclass(frozen=True)
class Observed:
    """Names of what was seen, and the digest that each had; None for what was not there."""

    files: dict[str, str | None] = field(default_factory=dict)  # relative to the project
    folders: dict[str, str | None] = field(default_factory=dict)  # their lists of names
    env: dict[str, str | None] = field(default_factory=dict)
    modules: dict[str, str | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.env or self.modules)

    def as_json(self) -> dict[str, dict[str, str | None]]:
        return {kind: names for kind, names in vars(self).items() if names}

    @staticmethod
    def from_json(kept: dict[str, dict[str, str | None]]) -> Observed:
        return Observed(**kept)


class World:
    """How things that can be observed are now, each asked for once in a run."""

    def __init__(self, root: Path, digests: FileDigests, sources: Sources) -> None:
        self._root, self._digests, self._sources = root, digests, sources

    def now(self, kind: str, name: str) -> str | None:
        """Return the digest of a file, folder, variable or module; None where there is none."""
        if kind == "files":
            path = self._root / name
            try:
                return self._digests.file(path) if path.is_file() else None
            except DataError:
                return "cannot be read"
        if kind == "folders":
            return listing(self._root / name)
        if kind == "env":
            return value_digest(os.environ.get(name))
        return module_digest(name, self._sources)


class Observer:
    """Observes one step at a time in this process. The hooks stay for the life of the process."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._watch: Watch | None = None
        self._late: set[str] = set()  # modules of ours that came while steps ran
        self._told = False  # that not every folder is watched

    def watch_native_readers(self) -> None:
        """Have the kernel tell what is opened, from now on; called where native code may read."""
        if self._watch is None:
            self._watch = Watch.start(self._root, SKIPPED)

    def close(self) -> None:
        """Give the kernel's watches back, of which a user has a limited number."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        """Observe what happens inside; the result is complete after the block."""
        Hook.install()
        seen = Seen(self._root, set(sys.modules))
        if self._watch is not None:
            self._watch.look()  # what was opened before is nobody's
        Hook.before_a_child = self._before_a_child
        Hook.look = partial(self._look, seen)
        Hook.seen = seen
        try:
            yield seen
        finally:
            Hook.forget()
            self._look(seen)

    def notices(self) -> list[str]:
        """Return, once, what the observation cannot do here."""
        if self._told or self._watch is None or self._watch.complete:
            return []
        self._told = True
        return [
            "the project has more folders than can be watched: declare files that native code reads"
        ]

    def _before_a_child(self) -> None:
        """Watch from here on what a process opens that a step is about to start."""
        seen, Hook.seen = Hook.seen, None
        self.watch_native_readers()
        Hook.seen = seen

    def _look(self, seen: Seen) -> None:
        if self._watch is None:
            return
        opened, written, lost = self._watch.look()
        seen.opened += [(p, False) for p in opened if not p.endswith(_NOT_FOR_READERS)]
        seen.opened += [(path, True) for path in written]
        seen.lost = seen.lost or lost

    def conclude(
        self, seen: Seen, world: World, sources: Sources, known: Iterable[str], mine: set[str]
    ) -> tuple[Observed, list[str]]:
        """Return what the step depends on beyond what is known, and what changed while it ran.

        Args:
            seen: what `watching` gave.
            world: how things are now.
            sources: the project's modules.
            known: absolute paths that the key counts already (declared inputs).
            mine: files of modules that the key counts already.
        """
        files, written = seen.files(set(known))
        unsettled = [name for name in files if seen.is_younger(name)]
        modules = self._late_modules(seen, sources, mine)
        env = seen.env()
        for kind, name in self._read_by(self._late):
            if kind == "files":
                files.add(name)
            else:
                env.setdefault(name, world.now(kind, name))
        if SHARE in os.environ:  # which of the GPUs it got is no part of what it computes
            env = {name: digest for name, digest in env.items() if name not in (CUDA, HIP, SHARE)}
        return Observed(
            files={name: world.now("files", name) for name in sorted(files - written)},
            folders={name: world.now("folders", name) for name in sorted(seen.folders())},
            env=dict(sorted(env.items())),
            modules={name: world.now("modules", name) for name in sorted(modules)},
        ), [name for name in unsettled if name not in written]

    def _late_modules(self, seen: Seen, sources: Sources, mine: set[str]) -> set[str]:
        for name in set(sys.modules) - seen.modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and sources.is_ours(file):
                self._late.add(name)
        return {n for n in self._late if getattr(sys.modules.get(n), "__file__", "") not in mine}

    def _read_by(self, modules: set[str]) -> set[tuple[str, str]]:
        """Return what modules read at import, which another step than this one may have caused."""
        files = [getattr(sys.modules.get(name), "__file__", None) for name in modules]
        return Hook.late.within({file: [(1, sys.maxsize)] for file in files if file})


def listing(folder: Path) -> str | None:
    """Return the digest of the names in a folder; None where there is none."""
    try:
        names = sorted(n for n in os.listdir(folder) if n not in SKIPPED)
    except OSError:
        return None
    return sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
