"""The version of the distribution that an import name comes from, without importing either.

`importlib.metadata` costs 25 ms to import and a second to read an environment of 250 distributions,
so a name is first looked for among the folders' names; only what is called differently from its
distribution (sklearn, yaml) is asked of importlib.metadata, and the answer kept beside the cache.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_SUFFIX = ".dist-info"


class Distributions:
    """What is installed along `sys.path`; answers are kept in `memory`, a file that may be lost."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._folders: dict[str, str] | None = None  # normalised name -> version
        self._state = ""
        self._known: dict[str, str] = {}

    def version(self, package: str) -> str:
        """Return "2.3.3" for "pandas"; "1.9.1" for "sklearn"; "unknown" where nothing says."""
        if self._folders is None:
            self._scan()
        folders = self._folders or {}
        direct = folders.get(_normal(package))
        if direct is not None:
            return direct
        if package not in self._known:
            self._known[package] = _asked(package) or ""
            self._remember()
        return self._known[package] or _declared(package)  # which no folder's time vouches for

    def _scan(self) -> None:
        found: dict[str, str] = {}
        state = []
        for folder in reversed(sys.path):  # what stands first on the path is what is imported
            with suppress(OSError):
                names = os.listdir(folder or ".")
                dists = [name for name in names if name.endswith(_SUFFIX)]
                if dists:
                    state.append(f"{folder}:{os.stat(folder).st_mtime_ns}")
                for name in dists:
                    title, _, version = name.removesuffix(_SUFFIX).partition("-")
                    found[_normal(title)] = version
        self._folders, self._state = found, "\n".join(state)
        if self._memory is not None:
            with suppress(OSError, ValueError):
                kept = json.loads(self._memory.read_bytes())
                if kept["state"] == self._state:
                    self._known = kept["known"]

    def _remember(self) -> None:
        if self._memory is None:
            return
        text = json.dumps({"state": self._state, "known": self._known})
        partial = self._memory.with_name(f"{self._memory.name}.{os.getpid()}.partial")
        with suppress(OSError):  # a read-only folder only costs the time to ask again
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text)
            partial.replace(self._memory)


def _asked(package: str) -> str | None:
    metadata = import_module("importlib.metadata")
    names: list[str] = sorted(set(metadata.packages_distributions().get(package, [])))
    versions = [f"{metadata.version(name)}" for name in names]
    return ",".join(versions) or None


def _declared(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def _normal(name: str) -> str:
    return name.replace("-", "_").replace(".", "_").lower()
