"""Adding: data from anywhere becomes the newest version of a dataset, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.digests import FileDigests
from charkha.data.formats import table_format
from charkha.data.git import Git
from charkha.data.late import late
from charkha.data.pointers import SUFFIX, Pointer, check_name, look_up, name_of, read_pointer
from charkha.data.refusals import refused
from charkha.data.sources import open_source
from charkha.data.sources.path import PathSource
from charkha.data.versions import DatasetVersion, state_of
from charkha.errors import DataError, NotFound

if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource, Progress
    from charkha.project import Project


def _silent(done: int, total: int | None) -> None:
    pass


def add(
    project: Project,
    source: str,
    name: str | None = None,
    *,
    force: bool = False,
    progress: Progress = _silent,
) -> DatasetVersion:
    """Make what is at `source` the newest version of a dataset, under DVC.

    Args:
        project: where it is added; it has to be in git. DVC is set up where it is not.
        source: a path, or an address that `charkha.data.sources` knows. A path inside the data
            folder is added where it lies; anything else is copied there.
        name: of the dataset; the name of the file up to its first dot without it.
        force: overwrite a working copy whose changes were never added.
        progress: told of the bytes that come.

    Raises:
        DataError: the name is taken or impossible, or what came is an empty or damaged table.
        CharkhaError: as `DataSource.fetch`.
    """
    origin = open_source(source, project)
    folder = project.data.folder
    name = _name(origin, folder, name)
    Git(project.root)  # before anything is fetched
    current = look_up(folder, name)
    if isinstance(origin, PathSource) and _inside(origin.path, folder) == name:
        if not origin.path.exists():
            raise NotFound(f"{origin.path} does not exist", fix="correct the path")
        _refuse_clash(name, current, origin.path, project, force=True)
        note = _note(origin.path, origin)
        return _register(project, name, origin.path, current, note)
    with _staging(project) as (staging, aside):
        arrived = origin.fetch(staging, progress)
        target = folder / f"{name}{_suffixes(arrived)}"
        _refuse_clash(name, current, target, project, force=force)
        note = _note(arrived, origin)
        with _swapped(arrived, target, aside):
            return _register(project, name, target, current, note)


def _name(origin: DataSource, folder: Path, name: str | None) -> str:
    if name is not None:
        return check_name(name)
    own = name_of(Path(origin.file_name), Path())
    if isinstance(origin, PathSource) and (inside := _inside(origin.path, folder)) is not None:
        own = inside
    try:
        return check_name(own)
    except DataError as e:
        raise DataError(e.what, fix="name it: charkha data add … --name NAME") from e


def _inside(path: Path, folder: Path) -> str | None:
    """Return the name that `path` has as a dataset of the data folder, or None outside of it."""
    real, data = path.parent.resolve() / path.name, folder.resolve()
    return name_of(real, data) if real.is_relative_to(data) and real != data else None


def _suffixes(path: Path) -> str:
    return "" if path.is_dir() else path.name[len(path.name.partition(".")[0]) :]


def _refuse_clash(
    name: str, current: Pointer | None, target: Path, project: Project, *, force: bool
) -> None:
    """Refuse to take a name that is taken, and to lose what is in no version."""
    if current is not None and current.path.name != target.name:
        raise DataError(
            f"{name} is already {os.path.relpath(current.path, project.root)}, not {target.name}",
            fix="choose another one with --name, or remove that dataset first",
        )
    if force or not target.exists():
        return
    shown = os.path.relpath(target, project.root)
    if current is None:
        what = f"{shown} is already there, and was never added"
    elif state_of(current, FileDigests(project.state)) == "changed, not added":
        what = f"{shown} has changes that were never added"
    else:
        return
    raise DataError(what, fix=f"charkha data add {shown}, or --force to overwrite it")


def _note(path: Path, origin: DataSource) -> dict[str, object]:
    """Return what is worth knowing of the data without having it; refuse what holds no data."""
    note: dict[str, object] = {}
    if path.is_dir():
        if not any(inner.is_file() for inner in path.rglob("*")):
            raise DataError(f"{path.name} has no files", fix="name a folder with data in it")
    elif path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty", fix="look at where it comes from")
    elif table_format(path):
        note["rows"], note["columns"] = late("charkha.data.tables", extra="tables").shape(path)
        if not note["rows"]:
            raise DataError(f"{path.name} has columns and no row", fix="look at its source")
    if origin.origin:
        note["source"] = origin.origin
    return {**note, "added": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def _register(
    project: Project, name: str, path: Path, current: Pointer | None, note: dict[str, object]
) -> DatasetVersion:
    """Put `path`, in the data folder, under DVC; the same bytes stay the same version."""
    digests = FileDigests(project.state)
    md5 = digests.folder(path, "md5") if path.is_dir() else digests.file(path, "md5")
    if current is not None and current.md5 == md5 and current.added:
        earlier = {key: getattr(current, key) for key in ("rows", "columns", "source", "added")}
        note = {key: value for key, value in earlier.items() if value is not None}
    pointer_file = path.with_name(path.name + SUFFIX)
    opened = late("charkha.data.dvc", extra="dvc").Dvc(project, create=True)
    with opened as dvc, _kept([pointer_file, path.parent / ".gitignore"]):
        dvc.record_remote()
        pointer = read_pointer(dvc.add(path, note))
        if pointer.md5 != md5:
            raise DataError(
                f"DVC leaves out files of {path.name}, by a rule in a .dvcignore",
                fix="take the rule out, or the files",
            )
    return DatasetVersion(name=name, pointer=pointer)


@contextmanager
def _staging(project: Project) -> Iterator[tuple[Path, Path]]:
    """Offer two empty folders in the project's state: for what arrives, and for what makes room."""
    place = project.state / "incoming"
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place))
    except OSError as e:
        raise refused(e, str(place)) from e
    try:
        (folder / "arrived").mkdir()
        (folder / "aside").mkdir()
        yield folder / "arrived", folder / "aside"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _swapped(arrived: Path, target: Path, aside: Path) -> Iterator[None]:
    """Put `arrived` at `target`; if what follows fails, put back what was there."""
    before, has_room = aside / target.name, False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.move(target, before)
        has_room = True
        shutil.move(arrived, target)
        yield
    except BaseException as e:
        if has_room and target.exists():
            shutil.move(target, aside / "failed")
        if has_room and before.exists():
            shutil.move(before, target)
        if isinstance(e, OSError):
            raise refused(e, str(target)) from e
        raise


@contextmanager
def _kept(files: list[Path]) -> Iterator[None]:
    """If what follows fails, give small files back the content that they have now."""
    before = {file: file.read_bytes() if file.exists() else None for file in files}
    try:
        yield
    except BaseException:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        raise
