"""The processes of parts: each in a group of its own, its output as lines, and all of them guarded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from charkha.supervision import lifeline
from charkha.supervision.parts import Part

_CHUNK = 65536
_LONGEST = 65536  # bytes of a line; what is longer becomes several
_LAST = 5  # lines that are told again when it dies


class Lifeline:
    """The guard that ends all children when this process is killed; see `lifeline.py`.

    Args:
        holding: descriptors that stay open until it has ended them.
    """

    def __init__(self, *holding: int) -> None:
        self._holding = holding
        self._groups: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        heard, self._told = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603  # our own file
            [sys.executable, "-I", "-S", lifeline.__file__],  # no site: it starts in 10 ms
            stdin=heard,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._holding,
            start_new_session=True,  # neither Ctrl-C nor a closed terminal reaches it
        )
        os.close(heard)

    def look(self) -> bool:
        """Begin again if it was killed itself; whether it was."""
        if self._process.poll() is None:
            return False
        os.close(self._told)
        self._begin()
        for group in self._groups:
            self._say(f"+{group}")
        return True

    def enter(self) -> None:
        """Have this process guarded: for a child, between fork and exec, so that none is missed."""
        self._say(f"+{os.getpid()}")

    def keep(self, group: int) -> None:
        """Remember a child that entered, for a guard that is begun again."""
        self._groups.add(group)

    def drop(self, group: int) -> None:
        """Guard a group no longer, as it has ended."""
        self._groups.discard(group)
        with suppress(BrokenPipeError):
            self._say(f"-{group}")

    def close(self) -> None:
        """End it; what is still guarded is ended by it."""
        os.close(self._told)
        self._process.wait()

    def _say(self, text: str) -> None:
        os.write(self._told, f"{text}\n".encode())


class Lines:
    """Bytes as they come, cut into lines of text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return [_text(line) for line in lines]

    def end(self) -> list[str]:
        """Return what is left without an end of line."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    """Return a line without what a terminal would obey."""
    text = line.decode("utf-8", "replace").rstrip("\r")
    return "".join(c for c in text if c.isprintable() or c == "\t")


class Child:
    """One process of a part, with its group; made and used on the event loop.

    Args:
        part: what it is.
        guard: ends it when this process is killed.
        heard: called with each line that it says, on stdout or stderr.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it cannot be guarded, so it was not started.
    """

    def __init__(self, part: Part, guard: Lifeline, heard: Callable[[str], None]) -> None:
        self.part, self.over = part, asyncio.Event()
        self.code: int | None = None
        self.last: deque[str] = deque(maxlen=_LAST)
        self._guard, self._heard, self._lines = guard, heard, Lines()
        self._output, writing = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  # what the part says
                part.command,
                cwd=part.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **part.variables},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # Ctrl-C is the supervisor's to hear
                preexec_fn=guard.enter,  # safe: there are no threads here
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(writing)
        guard.keep(self.pid)
        os.set_blocking(self._output, False)
        asyncio.get_running_loop().add_reader(self._output, self._read)

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    def look(self) -> None:
        """Take note if it has ended; what is left of its group is killed then."""
        if self.code is not None or self._process.poll() is None:
            return
        self.code = self._process.returncode
        self.kill()
        self._guard.drop(self.pid)
        while self._read():
            pass
        self._say(self._lines.end())
        asyncio.get_running_loop().remove_reader(self._output)
        os.close(self._output)
        self.over.set()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all of its group, at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self) -> bool:
        """Take what it has said; whether there may be more."""
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._output)
        self._say(self._lines.feed(data))
        return bool(data)

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            self.last.append(line)
            self._heard(line)
