"""Whether the code that runs is still the code on the disk.

What runs was loaded at import, what is hashed is read from the disk. In a notebook the two drift
apart as soon as somebody saves a file, and a result would be filed under code that did not make it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

from charkha.errors import ProjectError

_State = tuple[int, int]  # mtime in ns, size in bytes


class _Loaded(NamedTuple):
    """A module's file as it was when the module was imported."""

    spec: object  # of the module: importing it again makes another one
    state: _State
    digest: str


_loaded: dict[str, _Loaded] = {}


def remember(function: Callable[..., object]) -> None:
    """Remember the function's file, and those of the modules that were loaded beside it."""
    own = sys.modules.get(function.__module__)
    file = getattr(own, "__file__", None)
    if file is None or _is_known(file, own):
        return
    folder = os.path.dirname(file) + os.sep
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if (
            isinstance(file, str)
            and file.startswith(folder)
            and "site-packages" not in file
            and not _is_known(file, module)
        ):
            with suppress(OSError):
                spec = getattr(module, "__spec__", None)
                _loaded[file] = _Loaded(spec, _state(file), _digest(file))


def check(files: Iterable[str]) -> None:
    """Check that none of the files was saved with other contents after it was loaded.

    Raises:
        ProjectError: one was.
    """
    for file in files:
        before = _loaded.get(file)
        if before is None or before.state == _state(file):
            continue
        if before.digest != _digest(file):
            raise ProjectError(
                "was saved after it had been imported, so what would run is the old code",
                where=os.path.basename(file),
                fix="restart the kernel, or importlib.reload the module and the pipeline's",
            )


def _is_known(file: str, module: object) -> bool:
    return file in _loaded and _loaded[file].spec is getattr(module, "__spec__", None)


def _state(file: str) -> _State:
    found = os.stat(file)
    return found.st_mtime_ns, found.st_size


def _digest(file: str) -> str:
    with open(file, "rb") as opened:
        return sha256(opened.read()).hexdigest()
