"""Which files of a folder the kernel saw being opened: also by readers that are native code.

Python's audit hook does not see what pyarrow or DuckDB open; Linux's inotify(7) does, without saying
by which process. Where the platform has no inotify, `Watch.start` returns None and `charkha doctor`
says so.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

# IN_OPEN, IN_MODIFY, IN_CREATE, IN_MOVED_TO, IN_Q_OVERFLOW of <sys/inotify.h>
_OPEN, _MODIFY, _CREATE, _MOVED_TO, _OVERFLOW = 0x20, 0x2, 0x100, 0x80, 0x4000
_WRITTEN = _MODIFY | _CREATE | _MOVED_TO
_IS_DIR = 0x40000000
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name
_MOST_FOLDERS = 2_000  # the kernel's default limit is 8,192 for a user


class Opened(NamedTuple):
    """Paths since the last look."""

    opened: set[str]
    written: set[str]  # also opened
    lost: bool  # the kernel's queue ran over, so there were more


class Watch:
    """Watches a folder and the folders below it, but for those that `skip` names."""

    def __init__(self, descriptor: int, libc: object, skip: frozenset[str]) -> None:
        self._descriptor, self._libc, self._skip = descriptor, libc, skip
        self._paths: dict[int, str] = {}  # of a folder, or of a file behind a link
        self.complete = True

    @classmethod
    def start(cls, root: str, skip: frozenset[str]) -> Watch | None:
        """Begin to watch; None where the platform cannot, or has no watch left."""
        if sys.platform != "linux":
            return None
        import ctypes  # 4 ms that only a run with native readers pays

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if descriptor < 0:
            return None
        watch = cls(descriptor, libc, skip)
        watch._add_tree(root)
        return watch

    def look(self) -> Opened:
        """Return what was opened since the last look."""
        opened: set[str] = set()
        written: set[str] = set()
        lost = False
        for number, mask, name in self._events():
            lost = lost or bool(mask & _OVERFLOW)
            folder = self._paths.get(number)
            if folder is None:
                continue
            path = f"{folder}/{name}" if name else folder
            if mask & _IS_DIR:
                if name and mask & (_CREATE | _MOVED_TO) and name not in self._skip:
                    self._add_tree(path)
                continue
            if mask & _WRITTEN:
                written.add(path)
            opened.add(path)
        return Opened(opened, written, lost)

    def close(self) -> None:
        os.close(self._descriptor)

    def _add_tree(self, root: str) -> None:
        for path in _watchable(root, self._skip):
            if len(self._paths) >= _MOST_FOLDERS or not self._add(path):
                self.complete = self.complete and not os.path.exists(path)
                if not self.complete:
                    return

    def _add(self, path: str) -> bool:
        add = self._libc.inotify_add_watch  # type: ignore[attr-defined]
        number = add(self._descriptor, os.fsencode(path), _OPEN | _WRITTEN)
        if number >= 0:
            self._paths[number] = path
        return bool(number >= 0)

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return
            start = 0
            while start < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, start)
                start += _EVENT.size
                yield number, mask, os.fsdecode(data[start : start + length].rstrip(b"\0"))
                start += length


def _watchable(root: str, skip: frozenset[str]) -> Iterator[str]:
    """Yield folders, those near the root first, and files behind links.

    The kernel tells of a file in the folder where it really is, so what a link leads to is watched
    itself. Installed environments are left out, whatever they are called.
    """
    waiting, known = deque([root]), {os.path.realpath(root)}
    while waiting:
        folder = waiting.popleft()
        try:
            with os.scandir(folder) as entries:
                found = [e for e in entries if e.name not in skip]
        except OSError:
            continue
        if any(e.name == "pyvenv.cfg" for e in found):
            continue
        yield folder
        for entry in found:
            if not entry.is_symlink():
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
            elif entry.is_file():
                yield entry.path
            elif entry.is_dir() and (real := os.path.realpath(entry.path)) not in known:
                known.add(real)
                waiting.append(entry.path)
