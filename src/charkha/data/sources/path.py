"""A file or a folder on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.refusals import refused
from charkha.data.sources.port import Progress
from charkha.errors import NotFound, UserError


class PathSource:
    """A DataSource of one path."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # not resolved: a link's own name is what counts

    @property
    def file_name(self) -> str:
        return self.path.name

    @property
    def origin(self) -> None:
        return None  # a folder of this machine means nothing on another

    def fetch(self, into: Path, progress: Progress) -> Path:
        if not self.path.exists():
            raise NotFound(f"{self.path} does not exist", fix="correct the path")
        if self.path.is_dir() and into.is_relative_to(self.path):
            raise UserError(
                f"{self.path} holds the project itself", fix="name a folder that holds only data"
            )
        target = into / self.file_name
        files = [self.path] if self.path.is_file() else _files(self.path)
        try:
            if self.path.is_dir():
                target.mkdir()
            total, done = sum(file.stat().st_size for file in files), 0
            for file in files:
                copy = target / file.relative_to(self.path) if file != self.path else target
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
                done += copy.stat().st_size
                progress(done, total)
        except OSError as e:
            raise refused(e, str(self.path)) from e
        return target


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource

    _: DataSource = PathSource(Path())
