"""Sealed files in a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from charkha.data.refusals import refused
from charkha.errors import NotFound

_PARTIAL = ".partial"


class LocalPlace:
    """A Place under `root`, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def put(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        folder = os.path.dirname(path)
        partial = f"{path}{_PARTIAL}"  # one name, so that what a kill left behind is written over
        try:
            _make(folder)
            try:
                with open(partial, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)  # a reader sees the whole file or none
                _sync(folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(partial)
                raise
        except OSError as e:
            raise refused(e, path) from e

    def open(self, name: str) -> BinaryIO:
        path = f"{self._root}/{name}"
        try:
            return open(path, "rb")
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFound(f"there is no {path}") from e
        except OSError as e:
            raise refused(e, path) from e

    def names(self, folder: str) -> list[str]:
        return [f"{folder}{n}" for n, is_folder in self._listed(folder) if not is_folder]

    def folders(self, folder: str) -> list[str]:
        return [f"{folder}{n}/" for n, is_folder in self._listed(folder) if is_folder]

    def _listed(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(f"{self._root}/{folder}") as entries:
                found = [(e.name, e.is_dir()) for e in entries if not e.name.endswith(_PARTIAL)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            raise refused(e, f"{self._root}/{folder}") from e
        return sorted(found)


def _make(folder: str) -> None:
    """Make a folder and those above it, each of which outlives a crash."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make(above)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _sync(above)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


if TYPE_CHECKING:
    from charkha.serving.records.places.port import Place

    _: Place = LocalPlace(Path())
