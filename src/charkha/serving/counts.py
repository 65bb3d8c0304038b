"""Counts in memory that several processes map: a worker adds, anybody reads, a death loses nothing.

A worker has files of one page each, in a folder for the server. A page is a header and entries: a
key (a metric's name and its labels, as JSON) and 64-bit floats. An entry is whole before the header
counts it in, so that no reader sees half of one; a float is written and read in one move. A worker
holds a lock on its first page for as long as it lives. Who comes after it, under the same number,
goes on where it stopped.

The folder lies in memory (/dev/shm) where there is one: a page on a disk is written back now and
then, and whoever adds to it meanwhile waits for the disk.
"""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zlib import crc32

Key = tuple[str, tuple[tuple[str, str], ...]]  # a metric's name; its labels in their order
Cells: TypeAlias = "memoryview[float]"

PAGE_BYTES = 1 << 16
_MAGIC = b"charkha\x01"
_HEAD = struct.Struct("=8sQQQ")  # magic, bytes used, pid of the worker, nothing
_USED = struct.Struct("=Q")
_ENTRY = struct.Struct("=IIQ")  # bytes of the key, its CRC-32, number of cells
_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # a private folder is made in it
_PREFIX = "charkha-counts-"
_log = logging.getLogger(__name__)


@contextmanager
def counting() -> Iterator[Path]:
    """Make the folder of one server's counts; it is gone with the server.

    Folders of servers that were killed are removed here as well.
    """
    above = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in above.glob(f"{_PREFIX}{os.getuid()}-*"):
        if not _is_held(left / "server"):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix="charkha-new-", dir=above))
    folder = above / f"{_PREFIX}{os.getuid()}-{made.name.rpartition('-')[2]}"
    try:
        with (made / "server").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            made.rename(
                folder
            )  # now that it is held: no other server takes it for one that is left
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Counts:
    """What one worker counts. Made in the process that counts; entries are taken by one thread.

    Args:
        folder: of the server.
        worker: its number, or a name without `-`. One that a living process has is no error: both
            are read.
    """

    def __init__(self, folder: Path, worker: int | str) -> None:
        self._folder = folder
        self._name, self._lock = _own_name(folder, worker)
        self._pages: list[mmap.mmap] = []
        self._found: dict[Key, Cells] = {}
        for number in range(max(1, len(list(folder.glob(f"{self._name}.*"))))):
            self._open(number)

    def take(self, key: Key, cells: int) -> Cells:
        """Return the cells of a key: those that it has, else new ones that are 0."""
        found = self._found.get(key)
        if found is not None:
            return found
        name = json.dumps(key, ensure_ascii=False, separators=(",", ":")).encode()
        needed = _ENTRY.size + _padded(len(name)) + 8 * cells
        if needed > PAGE_BYTES - _HEAD.size:
            raise ValueError(f"an entry of {needed:,} bytes is more than a page has")
        page = self._pages[-1]
        used = _USED.unpack_from(page, 8)[0]
        if used + needed > PAGE_BYTES:
            self._open(len(self._pages))
            page, used = self._pages[-1], _HEAD.size
        _ENTRY.pack_into(page, used, len(name), crc32(name), cells)
        start = used + _ENTRY.size
        page[start : start + len(name)] = name
        taken = _cells(page, start + _padded(len(name)), cells)
        _USED.pack_into(page, 8, used + needed)  # from here on it is there
        self._found[key] = taken
        return taken

    def found(self) -> list[tuple[Key, Cells]]:
        """Return every key that is there, with its cells."""
        return list(self._found.items())

    def close(self) -> None:
        """Let go of the lock: this worker has ended. What it counted stays, and can be added to."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self, number: int) -> None:
        """Map a page; where there is no room for one, a page that only this process sees."""
        try:
            page = self._map(number)
        except OSError as e:
            _log.warning("counts of this worker cannot be shown: %s", e.strerror)
            page = mmap.mmap(-1, PAGE_BYTES)
        if page[:8] != _MAGIC:
            _HEAD.pack_into(page, 0, _MAGIC, _HEAD.size, os.getpid(), 0)
        else:
            _HEAD.pack_into(page, 0, _MAGIC, _USED.unpack_from(page, 8)[0], os.getpid(), 0)
        self._pages.append(page)
        self._found |= _entries(page)

    def _map(self, number: int) -> mmap.mmap:
        descriptor = os.open(self._folder / f"{self._name}.{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, PAGE_BYTES)  # a page without room would be a SIGBUS
            return mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)


class Counted(NamedTuple):
    """What one worker has counted up to now."""

    worker: str  # its number or name
    pid: int | None  # None: it lives no more
    values: Mapping[Key, list[float]]


def read_counts(folder: Path) -> list[Counted]:
    """Return what each worker of a server has counted, the dead ones as well."""
    pages: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*-*.*"), key=lambda path: int(path.suffix[1:])):
        pages.setdefault(path.stem, []).append(path)
    return [_counted(name, paths) for name, paths in sorted(pages.items())]


def _counted(name: str, paths: list[Path]) -> Counted:
    values: dict[Key, list[float]] = {}
    pid = 0
    for path in paths:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < PAGE_BYTES:  # it is being made
                continue
            page = mmap.mmap(file.fileno(), PAGE_BYTES, access=mmap.ACCESS_READ)
        if page[:8] == _MAGIC:
            pid = _HEAD.unpack_from(page)[2]
            values |= {key: list(cells) for key, cells in _entries(page).items()}
    return Counted(name.partition("-")[0], pid if _is_held(paths[0]) else None, values)


def _entries(page: mmap.mmap) -> dict[Key, Cells]:
    found: dict[Key, Cells] = {}
    at, used = _HEAD.size, min(_USED.unpack_from(page, 8)[0], PAGE_BYTES)
    while at < used:
        length, check, cells = _ENTRY.unpack_from(page, at)
        start = at + _ENTRY.size
        name = page[start : start + length]
        at = start + _padded(length) + 8 * cells
        if not name or at > used or crc32(name) != check:  # not yet seen whole from here
            break
        metric, labels = json.loads(name)
        key = (metric, tuple((label, value) for label, value in labels))
        found[key] = _cells(page, at - 8 * cells, cells)
    return found


def _cells(page: mmap.mmap, start: int, count: int) -> Cells:
    return memoryview(page)[start : start + 8 * count].cast("d")


def _padded(length: int) -> int:
    return (length + 7) & ~7


def _own_name(folder: Path, worker: int | str) -> tuple[str, int | None]:
    """Return the first name of this worker's that no living process has, and the lock on it."""
    for attempt in range(64):
        name = f"{worker}-{attempt}"
        try:
            descriptor = os.open(folder / f"{name}.0", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as e:
            _log.warning("counts of worker %s cannot be kept: %s", worker, e.strerror)
            return f"{worker}-0", None
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return name, descriptor
        os.close(descriptor)
    raise RuntimeError(f"64 living processes count as worker {worker}")


def _is_held(path: Path) -> bool:
    """Whether a living process has the lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
