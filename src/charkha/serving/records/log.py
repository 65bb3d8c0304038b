"""An append-only file of this process: lines go in with one write(), whole or not at all.

What a `write()` took is the kernel's, so that it outlives the process. A log that its process holds
carries a lock (flock), which the kernel takes back when the process ends, however it ends: a log
without one belongs to nobody, and may be sealed by anybody. It gets its name with the lock on it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from charkha.serving.records.ids import new_ids
from charkha.serving.records.lines import encode_head

SUFFIX = ".log"
NEW = ".new"  # a log that has no lock yet
_AGAIN_S = 1.0  # between attempts while nothing can be written; between looks at the file
_log = logging.getLogger(__name__)
_monotonic = time.monotonic
_all: weakref.WeakSet[Log] = weakref.WeakSet()


class Log:
    """Lines of one kind, in one file after the other. Safe to share between threads.

    A child of fork() starts a file of its own. Attributes are for metrics.

    Args:
        folder: on a local disk; made when it is needed.
        kind: what the lines are: "predictions" or "feedback".
        power: whether what was appended outlives the loss of power as well: one fsync each time.
        segment_bytes: a file of that size is followed by another …
        segment_s: … and one of that age.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        *,
        power: bool = False,
        segment_bytes: int = 64 << 20,
        segment_s: float = 3600,
    ) -> None:
        self.written = self.lost = self.bytes_written = 0  # rows, rows, bytes
        self.failing = False
        self._folder, self._kind, self._power = str(folder), kind, power
        self._segment_bytes, self._segment_s = segment_bytes, segment_s
        self._most_bytes = segment_bytes  # of the present file
        self._file: _File | None = None
        self._look_at = self._again_at = self._failed_at = 0.0
        self._lost_before = 0
        self._lock = threading.Lock()
        _all.add(self)

    @property
    def folder(self) -> str:
        """Where the files are."""
        return self._folder

    def prepare(self) -> bool:
        """Make the folder and the file, so that trouble is known before the first row."""
        return self.append(b"", 0)

    def append(self, lines: bytes, rows: int, source: int = -1, declaration: bytes = b"") -> bool:
        """Write the lines; return whether they are kept. Lost rows are counted, and told once.

        Args:
            lines: each with its end.
            rows: how many lines that is.
            source: of all of them; -1 where there are no sources.
            declaration: the line that stands before the first record of this source in each file.
        """
        with self._lock:
            now = _monotonic()
            if now < self._again_at:
                self.lost += rows
                return False
            try:
                file = self._ready(now)
                written = file.append(lines if source in file.told else declaration + lines)
            except OSError as e:
                self._failed(e, rows, now)
                return False
            file.told.add(source)
            self.written += rows
            self.bytes_written += written
            if self.failing:
                self._recovered(now)
            return True

    def turn(self) -> None:
        """Let go of a file that is old enough, so that it can be sealed while nobody asks."""
        with self._lock:
            file = self._file
            if file is not None and _monotonic() - file.opened_at >= self._segment_s:
                self._let_go()

    def close(self) -> None:
        """Let go of the file. What is appended later begins another."""
        with self._lock:
            self._let_go()

    def part(self) -> None:
        """Forget the file of the parent; this is its child."""
        self._lock = threading.Lock()  # another thread may have held it
        self.written = self.lost = self.bytes_written = 0
        if self._file is not None:
            self._file.forget()
            self._file = None

    def _ready(self, now: float) -> _File:
        file = self._file
        if file is None:
            return self._begin(now)
        if file.size < self._most_bytes and now < self._look_at:
            return file
        self._look_at = now + _AGAIN_S
        gone = file.is_gone()
        if file.size < self._most_bytes and now - file.opened_at < self._segment_s and not gone:
            return file
        try:
            fresh = self._begin(now)
        except OSError:
            if gone:
                raise
            self._most_bytes += self._segment_bytes  # the old one still takes lines
            return file
        file.close()
        return fresh

    def _begin(self, now: float) -> _File:
        self._file = _File(self._folder, self._kind, power=self._power)
        self._file.opened_at = now
        self._look_at, self._most_bytes = now + _AGAIN_S, self._segment_bytes
        return self._file

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _failed(self, error: OSError, rows: int, now: float) -> None:
        self._let_go()  # after trouble comes a new file: this one may end anywhere
        self.lost += rows
        self._again_at = now + _AGAIN_S
        if not self.failing:
            self.failing, self._failed_at, self._lost_before = True, now, self.lost - rows
            said = error.strerror or str(error)
            _log.error("%s are not recorded, in %s: %s", self._kind, self._folder, said)

    def _recovered(self, now: float) -> None:
        self.failing = False
        lost, seconds = self.lost - self._lost_before, now - self._failed_at
        _log.warning("%s are recorded again; %d in %.0f s were lost", self._kind, lost, seconds)


class _File:
    """One file, held by this process."""

    def __init__(self, folder: str, kind: str, *, power: bool) -> None:
        """Make the file, and lock it before it can be seen.

        Raises:
            OSError: it cannot be made, or its head not be written.
        """
        self.opened_at = 0.0
        self.told: set[int] = set()  # sources that are declared in it
        self.size = 0
        self._power, self._rows = power, 0
        os.makedirs(folder, exist_ok=True)
        self._path = f"{folder}/{kind}-{new_ids(1)[0]}{SUFFIX}"
        unseen = self._path + NEW
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(unseen, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._head_bytes = self.append(encode_head(kind))
            os.rename(unseen, self._path)
            if power:
                _sync_folder(folder)
                _sync_folder(os.path.dirname(folder) or ".")  # where the folder itself may be new
        except OSError:
            os.close(self._fd)
            for path in (unseen, self._path):
                with suppress(OSError):
                    os.unlink(path)
            raise

    def append(self, lines: bytes) -> int:
        """Write all of it, or leave the file as it was; return how many bytes that is.

        Raises:
            OSError: it could not be written, or not be brought to the disk.
        """
        if not lines:
            return 0
        try:
            done = os.write(self._fd, lines)
            while done < len(lines):  # a disk that fills up takes a part, and refuses the next
                done += os.write(self._fd, lines[done:])
            if self._power:
                os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):  # else it ends with a torn line, which readers drop
                os.ftruncate(self._fd, self.size)
            raise
        self.size += done
        return done

    def is_gone(self) -> bool:
        """Whether somebody removed the file, so that nobody would find what is written to it."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Let go of the lock, and of a file in which nothing was recorded."""
        if self.size == self._head_bytes:
            with suppress(OSError):
                os.unlink(self._path)
        with suppress(OSError):  # a network's file system tells here what it could not write
            os.close(self._fd)

    def forget(self) -> None:
        """Close a child's copy of the descriptor; the parent keeps file and lock."""
        os.close(self._fd)


def _sync_folder(folder: str) -> None:
    """Bring the name of a new file to the disk, without which its bytes would be lost."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _part_all() -> None:
    for log in list(_all):
        log.part()


os.register_at_fork(after_in_child=_part_all)
