"""The distribution that an import name comes from: its version, or the line that installs it.

`importlib.metadata` costs 25 ms to import and a second to read an environment of 250 distributions,
so a name is first looked for among the folders' names; only what is called differently from its
distribution (sklearn, yaml) is asked of importlib.metadata, and the answer kept beside the cache.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_SUFFIX = ".dist-info"
_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+).*extra\s*==\s*["'](?P<extra>[\w-]+)["']""")
_OURS = ("test", "check")  # extras for who works on Charkha itself
_DISTRIBUTIONS = {  # import names that differ, of what a pipeline is likely to import
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "PIL": "pillow",
    "psycopg2": "psycopg2-binary",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost-cpu",
    "yaml": "pyyaml",
}


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


def extras() -> dict[str, set[str]]:
    """Return what each extra of Charkha installs, by the names of the distributions."""
    metadata = import_module("importlib.metadata")
    found: dict[str, set[str]] = {}
    try:
        requirements = metadata.requires("charkha") or ()
    except metadata.PackageNotFoundError:  # a copy of the sources that nobody installed
        return {}
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement)
        if match and match["extra"] not in _OURS:
            found.setdefault(match["extra"], set()).add(match["name"])
    return found


def install_line(module: str) -> str:
    """Return what to type where `module` cannot be imported: for an extra of ours, if one has it."""
    package = module.partition(".")[0]
    distribution = _DISTRIBUTIONS.get(package, package)
    offered = [extra for extra, names in extras().items() if distribution in names]
    if offered:
        return f"pip install 'charkha[{'local' if 'local' in offered else offered[0]}]'"
    return f"pip install {distribution}"


def requirement(package: str) -> str | None:
    """Return "scikit-learn==1.9.1" for "sklearn"; None for what no distribution brought.

    Where a distribution bears the package's name, or the one that it is known to have, that is it,
    and only another has all that are installed read.
    """
    metadata = import_module("importlib.metadata")
    for name in (package, _DISTRIBUTIONS.get(package, package)):
        with suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(name).metadata
            return f"{found['Name']}=={found['Version']}"
    owners: list[str] = sorted(metadata.packages_distributions().get(package, []))
    return f"{owners[0]}=={metadata.version(owners[0])}" if owners else None


def _asked(package: str) -> str | None:
    metadata = import_module("importlib.metadata")
    names: list[str] = sorted(set(metadata.packages_distributions().get(package, [])))
    versions = [f"{metadata.version(name)}" for name in names]
    return ",".join(versions) or None


def _declared(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def _normal(name: str) -> str:
    return name.replace("-", "_").replace(".", "_").lower()
