"""Digests of files and folders, remembered for as long as a file's stat stays the same.

What is remembered is trusted only where it cannot lie: size, mtime, ctime and inode are the same,
and both times were at least two seconds old when the file was read. A file changed within the tick
of its own clock would look unchanged (git calls it racy), so a young one is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from charkha.errors import DataError

RACY_NS = 2_000_000_000  # FAT keeps times to two seconds; every other file system is finer
_NOT_DATA = frozenset({".git", ".hg", ".dvc"})  # DVC leaves these out of a dataset

_Identity = list[int]  # size, mtime_ns, ctime_ns, inode
_Memory = dict[str, tuple[_Identity, str]]  # relative path -> what it was when read, its digest


class FileDigests:
    """Digests of files and folders; what was read once is remembered in files under `state`.

    Without a `state`, or where it cannot be written, everything is read each time. Processes may
    share a `state`: they can lose each other's memory, but never get a wrong digest from it.
    """

    def __init__(self, state: Path | None) -> None:
        self._memories = None if state is None else state / "digests"
        self._unsaved: dict[Path, _Memory] = {}

    def file(self, path: Path, algorithm: str = "sha256") -> str:
        """Return the digest of the file's bytes, in hex.

        Raises:
            DataError: it is not there, is no regular file, or cannot be read.
        """
        return self._digests({"": str(path)}, path, algorithm)[""]

    def folder(self, path: Path, algorithm: str = "sha256") -> str:
        """Return one digest of the names and the bytes of all files below `path`.

        It is that of a JSON list of `{algorithm: …, "relpath": …}` in the order of the paths, so
        empty folders do not count. For md5 the rule is DVC's to the letter and the result is what
        stands in a `.dvc` file: it ends in `.dir`, leaves out `.git`, `.hg` and `.dvc`, and a link
        to a folder is refused because DVC would drop it. Other algorithms follow such a link.

        Raises:
            DataError: it is not there, or something in it cannot be read.
        """
        listed = [
            {algorithm: digest, "relpath": name} for name, digest in self.files(path, algorithm)
        ]
        whole = hashlib.new(algorithm, json.dumps(listed, sort_keys=True).encode()).hexdigest()
        return f"{whole}.dir" if algorithm == "md5" else whole

    def files(self, path: Path, algorithm: str = "sha256") -> list[tuple[str, str]]:
        """Return the path (relative, with `/`) and the digest of each file that `folder` counts.

        Raises:
            DataError: as `folder`.
        """
        found = dict(sorted(_files(str(path), by_dvc=algorithm == "md5")))
        return list(self._digests(found, path, algorithm).items())

    def save(self) -> None:
        """Write down what was learned. A `state` that cannot be written is slower, not an error."""
        for path, memory in self._unsaved.items():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps(memory), "utf-8")
                os.replace(partial, path)
        self._unsaved.clear()

    def _digests(self, files: dict[str, str], asked: Path, algorithm: str) -> dict[str, str]:
        """Return the digest of each of the files, in their order, reading what is not known."""
        place = self._place(asked, algorithm)
        known = _recall(place)
        memory: _Memory = {}
        digests: dict[str, str] = {}
        for name, path in files.items():
            if name in known and known[name][0] == _stat(path):
                memory[name] = known[name]
                digests[name] = known[name][1]
                continue
            digests[name], identity = _read(path, algorithm)
            if identity is not None:
                memory[name] = (identity, digests[name])
        if place is not None and memory != known:
            self._unsaved[place] = memory
        return digests

    def _place(self, asked: Path, algorithm: str) -> Path | None:
        """One memory for each path that is asked for: a small file stays quick beside a huge folder."""
        if self._memories is None:
            return None
        name = hashlib.sha256(
            f"{algorithm}:{os.path.abspath(asked)}".encode(errors="surrogateescape")
        )
        return self._memories / name.hexdigest()[:24]


def _recall(place: Path | None) -> _Memory:
    if place is None:
        return {}
    try:
        remembered = json.loads(place.read_bytes())
        return {name: (identity, digest) for name, (identity, digest) in remembered.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # absent, or not what we write
        return {}


def _read(path: str, algorithm: str) -> tuple[str, _Identity | None]:
    """Return the file's digest, and its identity if that may stand for these bytes from now on."""
    now_ns = time.time_ns()
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise DataError(f"{path} is not a regular file", fix="leave it out, or name a file")
            digest = hashlib.file_digest(file, algorithm).hexdigest()
            after = os.fstat(file.fileno())
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror or e}") from e
    settled = max(before.st_mtime_ns, before.st_ctime_ns) <= now_ns - RACY_NS
    identity = _identity(before)
    return digest, identity if settled and identity == _identity(after) else None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for its writer for ever


def _stat(path: str) -> _Identity | None:
    try:
        return _identity(os.stat(path))
    except OSError:
        return None  # `_read` says what is wrong with it


def _identity(found: os.stat_result) -> _Identity:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _files(root: str, *, by_dvc: bool) -> Iterator[tuple[str, str]]:
    """Yield (path relative to `root` with `/`, path) of each file below `root`."""
    folders: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while folders:
        prefix, inside = folders.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as entries:
                for entry in entries:
                    if by_dvc and entry.name in _NOT_DATA:
                        continue
                    name = f"{prefix}{entry.name}"
                    if not entry.is_dir():
                        yield name, entry.path
                    elif entry.is_symlink() and by_dvc:
                        raise DataError(
                            f"{entry.path} is a link to a folder, which DVC leaves out",
                            fix="put the folder itself there, or remove the link",
                        )
                    elif (real := os.path.realpath(entry.path)) not in inside:  # a link upwards
                        folders.append((f"{name}/", (*inside, real)))
        except OSError as e:
            raise DataError(f"{e.filename or root} cannot be read: {e.strerror or e}") from e
