"""Differences between two versions of a dataset: columns, rows, files."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api import types

from charkha.data.datasets import digest
from charkha.data.digests import FileDigests
from charkha.data.dvc import Dvc
from charkha.data.formats import table_format
from charkha.data.pointers import Pointer, find_pointer
from charkha.data.tables import read_frame
from charkha.data.versions import find_version, log
from charkha.errors import Bug, DataError

if TYPE_CHECKING:
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class TableDifference:
    """What changed in a table."""

    rows_before: int
    rows_after: int
    rows_added: int
    rows_removed: int
    rows_changed: int
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: dict[str, str]  # name -> "12 values", "int64 → float64"
    compared_by: str  # "position" | "content" | "key Order"


@dataclass(frozen=True, kw_only=True)
class FilesDifference:
    """What changed in a folder, or in a file that is no table."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetDifference:
    """What changed between two versions of a dataset."""

    name: str
    before: str  # short md5
    after: str  # short md5, or "working copy"
    table: TableDifference | None = None
    files: FilesDifference | None = None

    @property
    def is_empty(self) -> bool:
        return self.table is None and self.files is None


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One of the two, with its bytes at hand."""

    shown: str
    pointer: Pointer
    path: Path
    files: dict[str, str] = field(default_factory=dict)  # of a folder: name -> md5


def diff(
    project: Project,
    name: str,
    before: str | None = None,
    after: str | None = None,
    *,
    key: tuple[str, ...] = (),
) -> DatasetDifference:
    """Say what changed in a dataset from one version to another.

    Args:
        project: where the dataset is.
        name: of the dataset.
        before: a version as in `restore`; HEAD's without it.
        after: a version; the working copy without it.
        key: columns by which a row is found again. Without a key, tables of one length are
            compared row by row, others as sets of rows.

    Raises:
        DataError: there is no such version, or the key is not one.
        BackendError: the bytes of a version cannot be had.
    """
    with Dvc(project) as dvc, tempfile.TemporaryDirectory() as folder:
        if before is None and not any(version.commit for version in log(project, name)):
            raise DataError(
                f"{name} was never committed, so there is nothing to compare it with",
                fix="commit its .dvc file",
            )
        old = _at(project, dvc, name, before or "HEAD", Path(folder) / "before")
        new = (
            _at(project, dvc, name, after, Path(folder) / "after")
            if after
            else _working(project, name)
        )
        if old.pointer.md5 == new.pointer.md5:
            return DatasetDifference(name=name, before=old.shown, after=new.shown)
        if old.pointer.is_folder or new.pointer.is_folder or not table_format(new.path):
            files = _compare_files(old.files, new.files)
            return DatasetDifference(name=name, before=old.shown, after=new.shown, files=files)
        table = compare(read_frame(old.path), read_frame(new.path), key)
        return DatasetDifference(name=name, before=old.shown, after=new.shown, table=table)


def compare(old: pd.DataFrame, new: pd.DataFrame, key: tuple[str, ...] = ()) -> TableDifference:
    """Compare two tables (see `diff`).

    Raises:
        DataError: a column of the key is not in both, or the key is not unique in one.
    """
    shared = [column for column in old.columns if column in new.columns]
    if key:
        _check_key(old, new, key)
        left, right = old.set_index(list(key)), new.set_index(list(key))
        common = left.index.intersection(right.index)
        added, removed = len(new) - len(common), len(old) - len(common)
        values = [column for column in shared if column not in key]
        unequal = _unequal(left.loc[common, values], right.loc[common, values])
    elif len(old) == len(new):
        added = removed = 0
        unequal = _unequal(old[shared], new[shared])
    else:
        same = _in_both(old[shared], new[shared])
        added, removed = len(new) - same, len(old) - same
        unequal = pd.DataFrame()
    by = f"key {', '.join(key)}" if key else "position" if len(old) == len(new) else "content"
    return TableDifference(
        rows_before=len(old),
        rows_after=len(new),
        rows_added=added,
        rows_removed=removed,
        rows_changed=int(unequal.any(axis="columns").sum()),
        columns_added=tuple(str(column) for column in new.columns if column not in old.columns),
        columns_removed=tuple(str(column) for column in old.columns if column not in new.columns),
        columns_changed=_columns_changed(old[shared], new[shared], unequal),
        compared_by=by,
    )


def _columns_changed(old: pd.DataFrame, new: pd.DataFrame, unequal: pd.DataFrame) -> dict[str, str]:
    changed = {}
    for column in old.columns:
        said = []
        if str(old[column].dtype) != str(new[column].dtype):
            said.append(f"{old[column].dtype} → {new[column].dtype}")
        if column in unequal.columns and (count := int(unequal[column].sum())):
            said.append(f"{count:,} value{'s' if count > 1 else ''}")
        if said:
            changed[str(column)] = ", ".join(said)
    return changed


def _check_key(old: pd.DataFrame, new: pd.DataFrame, key: tuple[str, ...]) -> None:
    for frame, which in ((old, "before"), (new, "after")):
        for column in key:
            if column not in frame.columns:
                raise DataError(
                    f"the version {which} has no column {column!r}",
                    fix=f"choose --key from: {', '.join(map(str, frame.columns))}",
                )
        if (count := int(frame.duplicated(list(key)).sum())) > 0:
            raise DataError(
                f"{', '.join(key)} is no key: {count:,} rows of the version {which} repeat one",
                fix="give more columns with --key, or none",
            )


def _unequal(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return true where the values differ; two missing values do not. Rows are in the same order."""
    unequal = {}
    for column in old.columns:
        left, right = _alike(old[column], new[column])
        both_missing = left.isna().to_numpy() & right.isna().to_numpy()
        unequal[column] = (left.to_numpy() != right.to_numpy()) & ~both_missing
    return pd.DataFrame(unequal, index=range(len(old)))


def _in_both(old: pd.DataFrame, new: pd.DataFrame) -> int:
    """Return how many rows two tables share, each row counted as often as both have it."""
    if old.columns.empty:
        return 0
    alike = {column: _alike(old[column], new[column]) for column in old.columns}
    hashes = [
        pd.util.hash_pandas_object(pd.DataFrame({c: p[i] for c, p in alike.items()}), index=False)
        for i in (0, 1)
    ]
    left, right = (each.value_counts() for each in hashes)
    common = left.index.intersection(right.index)
    return int(left[common].clip(upper=right[common]).sum())


def _alike(old: pd.Series, new: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return both as one type in which equal values are equal: 1 and 1.0 are, 1 and "1" are not."""
    plain = isinstance(old.dtype, np.dtype) and old.dtype != object
    if plain and old.dtype == new.dtype:
        return old, new
    if types.is_numeric_dtype(old.dtype) and types.is_numeric_dtype(new.dtype):
        return old.astype("float64"), new.astype("float64")
    return old.map(repr).where(old.notna()), new.map(repr).where(new.notna())


def _compare_files(old: dict[str, str], new: dict[str, str]) -> FilesDifference:
    return FilesDifference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def _at(project: Project, dvc: Dvc, name: str, version: str, folder: Path) -> _Side:
    """Return a version from the cache (or the remote), under the name that says what it is."""
    found = find_version(project, name, version)
    pointer = found.pointer
    dvc.fetch([pointer])
    if (cached := dvc.cached(pointer)) is None:
        raise Bug(f"{pointer.md5} was fetched and is not in DVC's cache")
    if pointer.is_folder:
        listed = json.loads(cached.read_bytes())
        files = {entry["relpath"]: entry["md5"] for entry in listed}
        return _Side(shown=found.short, pointer=pointer, path=cached, files=files)
    folder.mkdir()
    link = folder / pointer.path.name
    link.symlink_to(cached)
    return _Side(
        shown=found.short, pointer=pointer, path=link, files={pointer.path.name: pointer.md5}
    )


def _working(project: Project, name: str) -> _Side:
    pointer = find_pointer(project.data.folder, name)
    digests = FileDigests(project.state)
    md5 = digest(pointer, digests)
    if md5 is None:
        raise DataError(
            f"{name} is not here: {pointer.path} was not pulled", fix=f"charkha data pull {name}"
        )
    is_folder = pointer.path.is_dir()
    files = dict(digests.files(pointer.path, "md5")) if is_folder else {pointer.path.name: md5}
    return _Side(
        shown="working copy", pointer=pointer._replace(md5=md5), path=pointer.path, files=files
    )
