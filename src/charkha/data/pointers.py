"""Pointers: the `.dvc` files, read without DVC, and the names by which people call them.

A pointer is a few lines of YAML. Importing a YAML parser costs more than a whole cached run may, so
the shape that DVC writes is read by a pattern, and only what looks different goes to PyYAML.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from charkha.data.formats import CHECKS_SUFFIX
from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import DataError

SUFFIX = ".dvc"
_NAME = re.compile(r"[A-Za-z0-9_][\w-]*(/[A-Za-z0-9_][\w-]*)*", re.ASCII)
_WRITTEN_BY_DVC = re.compile(
    r"outs:\n"
    r"- md5: (?P<md5>[0-9a-f]{32}(?:\.dir)?)\n"
    r"  size: (?P<size>\d+)\n"
    r"(?:  nfiles: (?P<files>\d+)\n)?"
    r"  hash: md5\n"
    r"  path: (?P<path>(?!(?:true|false|null)\n)[A-Za-z_][\w./-]*)\n"
    r"(?:meta:\n"
    r"  charkha:\n"
    r"    md5: (?P<noted>[0-9a-f]{32}(?:\.dir)?)\n"
    r"(?:    rows: (?P<rows>\d+)\n)?"
    r"(?:    columns: (?P<columns>\d+)\n)?"
    r"(?:    source: (?P<source>(?!(?:true|false|null)\n)[A-Za-z_][\w./:-]*[\w/])\n)?"
    r"(?:    added: '(?P<added>[0-9TZ:-]+)'\n)?"
    r")?",
    re.ASCII,
)


class Pointer(NamedTuple):
    """What one `.dvc` file says: which bytes belong at `path`."""

    file: Path  # data/ames.parquet.dvc
    path: Path  # data/ames.parquet
    md5: str  # ends in `.dir` for a folder
    algorithm: str = "md5"  # "md5-dos2unix" in files of DVC 1 and 2
    size_bytes: int | None = None
    files: int | None = None  # in a folder
    rows: int | None = None  # what `charkha data add` noted of a table, with this md5
    columns: int | None = None
    source: str | None = None
    added: str | None = None  # ISO 8601, UTC

    @property
    def is_folder(self) -> bool:
        return self.md5.endswith(".dir")


def parse_pointer(text: str, file: Path) -> Pointer:
    """Return what the text of the pointer at `file` says.

    Raises:
        DataError: it is no pointer to one file or folder.
    """
    if (shape := _WRITTEN_BY_DVC.fullmatch(text)) is None:
        return _parse_yaml(text, file)
    noted = shape["noted"] == shape["md5"]  # a plain `dvc add` keeps our note of the bytes before
    return Pointer(
        file=file,
        path=file.parent / shape["path"],
        md5=shape["md5"],
        size_bytes=int(shape["size"]),
        files=_number(shape["files"]),
        rows=_number(shape["rows"]) if noted else None,
        columns=_number(shape["columns"]) if noted else None,
        source=shape["source"] if noted else None,
        added=shape["added"] if noted else None,
    )


def read_pointer(file: Path) -> Pointer:
    """Read the pointer at `file`.

    Raises:
        DataError: it cannot be read, or is no pointer to one file or folder.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{file} cannot be read: {e}") from e
    return parse_pointer(text, file)


def find_pointer(folder: Path, name: str) -> Pointer:
    """Return the pointer of the dataset `name` in the data folder.

    Raises:
        DataError: there is none, or more than one.
    """
    pointer = look_up(folder, name)
    if pointer is None:
        raise unknown(folder, name)
    return pointer


def look_up(folder: Path, name: str) -> Pointer | None:
    """Return the pointer of the dataset `name`, or None where there is none.

    Raises:
        DataError: there is more than one, or it cannot be read.
    """
    check_name(name)
    beside = (folder / name).parent
    stem = name.rpartition("/")[2]
    found = [file for file in _listed(beside) if _stem(file) == stem]
    if len(found) > 1:
        files = ", ".join(sorted(os.path.relpath(file, folder.parent) for file in found))
        raise DataError(
            f"{len(found)} datasets are called {name!r}: {files}",
            fix="rename one of them: git mv its .dvc file, and edit `path` in it",
        )
    return read_pointer(found[0]) if found else None


def find_pointers(folder: Path) -> list[Pointer]:
    """Return every pointer in the data folder, by name."""
    return sorted((read_pointer(file) for file in _below(folder)), key=lambda p: str(p.file))


def name_of(file: Path, folder: Path) -> str:
    """Return the dataset's name: its path in the data folder up to the first dot of the file."""
    return file.relative_to(folder).with_name(_stem(file)).as_posix()


def check_name(name: str) -> str:
    """Return the name.

    Raises:
        DataError: no dataset can be called that.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r} cannot be the name of a dataset",
            fix="use letters, digits, - and _ (with / for folders inside the data folder)",
        )
    return name


def unknown(folder: Path, name: str) -> DataError:
    """Return the error for a name that no dataset has, with the nearest one that there is."""
    names = [name_of(file, folder) for file in _below(folder)]
    if (near := nearest(name, names)) is not None:
        fix = f"did you mean {near!r}?"
    elif (unadded := _unadded(folder, name)) is not None:
        fix = f"charkha data add {os.path.relpath(unadded, folder.parent)}"
    else:
        fix = f"there are: {', '.join(sorted(names))}" if names else "charkha data add FILE"
    return DataError(f"no dataset is called {name!r}", fix=fix)


def _unadded(folder: Path, name: str) -> Path | None:
    beside = (folder / name).parent
    files = beside.iterdir() if beside.is_dir() else ()
    stem = name.rpartition("/")[2]
    return next((f for f in files if _stem(f) == stem and not f.name.endswith(CHECKS_SUFFIX)), None)


def _below(folder: Path) -> Iterator[Path]:
    yield from sorted(_listed(folder))
    for inner in sorted(_folders(folder)):
        if not inner.with_name(inner.name + SUFFIX).exists():  # a dataset may hold a million files
            yield from _below(inner)


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / n for n in os.listdir(folder) if n.endswith(SUFFIX) and n != SUFFIX]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _parse_yaml(text: str, file: Path) -> Pointer:
    yaml = late("yaml", extra="dvc")
    try:
        read = yaml.safe_load(text)
        (out,) = read["outs"]
        md5, path = str(out["md5"]), str(out["path"])
        meta = read.get("meta") or {}
        noted = meta.get("charkha") or {}
        noted = noted if noted.get("md5") == md5 else {}
        return Pointer(
            file=file,
            path=file.parent / str(read.get("wdir", ".")) / path,
            md5=md5,
            algorithm=str(out.get("hash", "md5-dos2unix")),
            size_bytes=out.get("size"),
            files=out.get("nfiles"),
            rows=noted.get("rows"),
            columns=noted.get("columns"),
            source=noted.get("source"),
            added=noted.get("added"),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as e:
        raise DataError(
            f"{file} is not a .dvc file of one output with an md5",
            fix="git checkout it, or make it again with `charkha data add`",
        ) from e
