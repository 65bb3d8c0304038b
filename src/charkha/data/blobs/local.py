"""Blobs in a folder: `ab/<key>` for bytes, `notes/<name>/<sha-256>` for notes.

Nothing is fsync'd here: bytes are proven by their key when they are read, so what a power cut tears
is found out and made again. `kill -9` tears nothing, for a file gets its name only when it is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from charkha.errors import CharkhaError, NotFound, Unavailable, UserError

_CHUNK = 1 << 20
_serial = count()


class LocalBlobs:
    """A BlobStore under `root`, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def put(self, content: BinaryIO) -> str:
        first = content.read(_CHUNK)
        if len(first) < _CHUNK:  # small: known before a file is made, so the same again is free
            key = hashlib.sha256(first).hexdigest()
            path = self._path(key)
            if _size(path) != len(first):
                self._write(path, first)
            return key
        return self._put_large(first, content)

    def open(self, key: str) -> BinaryIO:
        try:
            return open(self._path(key), "rb")
        except FileNotFoundError as e:
            raise NotFound(f"no blob {key[:12]}… under {self._root}") from e

    def size(self, key: str) -> int | None:
        return _size(self._path(key))

    def remove(self, key: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def note(self, name: str, record: bytes) -> None:
        self._write(self._note(name, record), record)

    def notes(self, name: str) -> list[bytes]:
        records = []
        for _, path in sorted(_listed(f"{self._root}/notes/{name}")):
            with suppress(FileNotFoundError), open(path, "rb") as file:
                records.append(file.read())
        return records

    def unnote(self, name: str, record: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._note(name, record))

    def path(self, key: str) -> Path:
        """Return where the blob `key` lies (an extra of this adapter: a file to map or to link)."""
        return Path(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}"

    def _note(self, name: str, record: bytes) -> str:
        return f"{self._root}/notes/{name}/{hashlib.sha256(record).hexdigest()}"

    def _write(self, path: str, data: bytes) -> None:
        partial = self._partial(path)
        try:
            with open(partial, "xb") as file:
                file.write(data)
            os.replace(partial, path)  # a reader sees the whole blob or none
        except OSError as e:
            _forget(partial)
            raise refused(e, path) from e

    def _put_large(self, first: bytes, rest: BinaryIO) -> str:
        digest = hashlib.sha256(first)
        partial = self._partial(f"{self._root}/incoming/blob")
        try:
            with open(partial, "xb") as file:
                file.write(first)
                while chunk := rest.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            path = self._path(digest.hexdigest())
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(partial, path)
        except OSError as e:
            _forget(partial)
            raise refused(e, partial) from e
        return digest.hexdigest()

    def _partial(self, path: str) -> str:
        """Return a name that no other writer has, in the folder of `path`, which is made."""
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as e:
            raise refused(e, path) from e
        return f"{path}.{os.getpid()}-{next(_serial)}.partial"


def refused(error: OSError, path: str) -> CharkhaError:
    """Translate what the file system said about `path` into what to do about it."""
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"no space left for {where}", fix="free some disk space and run again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError(
            f"{where} cannot be written: {os.strerror(error.errno)}",
            fix=f"make {os.path.dirname(where)} writable, or set [blobs] url to another folder",
        )
    return Unavailable(f"{where} cannot be written: {error.strerror or error}")


def _listed(folder: str) -> Iterator[tuple[int, str]]:
    """Yield when each note in a folder was written, and its path; also of the folders in it."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _listed(entry.path)
            elif len(entry.name) == 64:
                with suppress(FileNotFoundError):  # taken out since it was listed
                    yield entry.stat().st_mtime_ns, entry.path


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _forget(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore

    _: BlobStore = LocalBlobs(Path())
