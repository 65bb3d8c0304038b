"""A profile as the bytes of one file, the same for the same profile: a line of JSON, then arrays.

The line says what each column is and how long its arrays are; they follow in that order, 64-bit
little-endian floats for edges and unsigned 32-bit integers for counts (64-bit from 2³² rows on).
Nothing is compressed, so that no version of a library changes the bytes.
"""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from charkha.data.profiles.profile import Categories, Column, Counts, Numbers, Profile, Texts
from charkha.errors import Damaged

FORMAT = 1
_EDGES = "<f8"
_WIDE = 2**32


def write_profile(profile: Profile) -> bytes:
    """Return the bytes of the file."""
    arrays: list[bytes] = []
    columns = [
        {"name": name, **_described(column, arrays)} for name, column in profile.columns.items()
    ]
    head = {"charkha": "profile", "format": FORMAT, "columns": columns}
    line = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join([line, b"\n", *arrays])


def read_profile(data: bytes, where: str) -> Profile:
    """Read the bytes of the file; `where` is its name, for a message.

    Raises:
        Damaged: it is no profile, one of a later format, or cut short.
    """
    line, _, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        if head["charkha"] != "profile" or head["format"] != FORMAT:
            raise Damaged(
                f"{where} has format {head['format']!r}, and this Charkha reads {FORMAT}",
                key=where,
                fix="pip install --upgrade charkha",
            )
        arrays = _Arrays(rest)
        columns = {said["name"]: _column(said, arrays) for said in head["columns"]}
    except (ValueError, KeyError, TypeError) as e:
        raise Damaged(f"{where} is no profile: {e}", key=where) from e
    if arrays.left:
        raise Damaged(f"{where} has {arrays.left} bytes too many", key=where)
    return Profile(columns=columns)


def _described(column: Column, arrays: list[bytes]) -> dict[str, object]:
    """Return what the head says of a column, and add its arrays."""
    said: dict[str, object] = {"kind": column.kind, "rows": column.rows, "missing": column.missing}
    if isinstance(column, Numbers):
        arrays.append(column.edges.astype(_EDGES).tobytes())
        arrays += [_counts(column.below, column.rows), _counts(column.upto, column.rows)]
        return {**said, "edges": len(column.edges), "mean": column.mean, "sd": column.sd}
    if isinstance(column, Categories):
        arrays.append(_counts(column.counts, column.rows))
        return {**said, "other": column.other, "labels": list(column.labels)}
    return {
        **said,
        "lengths": _described(column.lengths, arrays),
        "shapes": _described(column.shapes, arrays),
    }


def _counts(counts: Counts, rows: int) -> bytes:
    return counts.astype(_counted_in(rows)).tobytes()


def _counted_in(rows: int) -> str:
    return "<u4" if rows < _WIDE else "<u8"


def _column(said: dict[str, Any], arrays: _Arrays) -> Column:
    rows, missing = int(said["rows"]), int(said["missing"])
    if said["kind"] == "categories":
        return Categories(
            rows=rows,
            missing=missing,
            labels=tuple(said["labels"]),
            counts=arrays.counts(len(said["labels"]), rows),
            other=int(said["other"]),
        )
    if said["kind"] == "texts":
        return Texts(
            rows=rows,
            missing=missing,
            lengths=cast("Numbers", _column(said["lengths"], arrays)),
            shapes=cast("Categories", _column(said["shapes"], arrays)),
        )
    return Numbers(
        rows=rows,
        missing=missing,
        edges=arrays.take(int(said["edges"]), _EDGES).astype(np.float64),
        below=arrays.counts(int(said["edges"]), rows),
        upto=arrays.counts(int(said["edges"]), rows),
        mean=float(said["mean"]),
        sd=float(said["sd"]),
        moments=said["kind"] == "moments",
    )


class _Arrays:
    """The arrays of a file, taken from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int, kind: str) -> NDArray[np.generic]:
        taken = np.frombuffer(self._data, dtype=kind, count=count, offset=self._at)
        self._at += taken.nbytes
        return taken

    def counts(self, count: int, rows: int) -> Counts:
        return self.take(count, _counted_in(rows)).astype(np.int64)
