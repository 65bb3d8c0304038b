"""One log of several processes: who said it and when; for people, and in a file that is rotated."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from charkha.clock import of_day, without

_COLOURS = (36, 35, 33, 32, 34)  # cyan, magenta, yellow, green, blue
_RED, _DIM = 31, 2
_KNOWN = {"time", "level", "logger", "message", "event", "pid"}  # fields that a line has otherwise


def readable(text: str) -> str:
    """Return a line of a log in JSON as a person reads it; any other one without its own time."""
    if not text.startswith("{"):
        return without(text)
    try:
        told = json.loads(text)
        message = told["message"]
    except (ValueError, KeyError, TypeError):
        return text
    level = told.get("level", "info")
    fields = "".join(f"  {k}={v}" for k, v in told.items() if k not in {*_KNOWN, "error"})
    error = f"\n{told['error']}" if told.get("error") else ""
    return f"{'' if level == 'info' else f'{level}: '}{message}{fields}{error}"


class LogFile:
    """A file of lines that is put aside when it is full; a full disk loses lines, and stops nobody.

    Args:
        path: of the newest one; those before are `up.log.1`, `up.log.2`, …
        most_bytes: of one file.
        keep: of the older ones.
    """

    def __init__(self, path: Path, *, most_bytes: int = 10_000_000, keep: int = 4) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._most_bytes, self._keep = path, most_bytes, keep
        self._file = self._open()

    def write(self, line: str) -> None:
        """Append a line."""
        with suppress(OSError):
            data = f"{line}\n".encode()
            if self._size + len(data) > self._most_bytes and self._size:
                self._rotate()
            self._size += os.write(self._file, data)

    def close(self) -> None:
        """Close the newest file."""
        os.close(self._file)

    def _open(self) -> int:
        opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(opened).st_size
        return opened

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            before = self._numbered(number - 1) if number > 1 else self._path
            with suppress(FileNotFoundError):
                before.replace(self._numbered(number))
        old, self._file = self._file, self._open()
        os.close(old)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Log:
    """What parts say, on a stream and in a file, each line with the part and the time.

    Args:
        names: of the parts; the longest decides the margin.
        stream: that people look at; None: the file alone.
        file: where it is kept.
        text: whether lines of JSON are made readable; else they stay as they are.
        colour: whether the stream is a terminal.
    """

    def __init__(
        self,
        names: Iterable[str],
        stream: TextIO | None,
        file: LogFile,
        *,
        text: bool,
        colour: bool = False,
    ) -> None:
        known = list(names)
        self._width = max(map(len, known))
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(known)}
        self._stream, self._file, self._text, self._colour = stream, file, text, colour

    def write(self, name: str, text: str, *, alarm: bool = False) -> None:
        """Write what one said; several lines are several lines of the log."""
        now = time.time()
        said = readable(text) if self._text else without(text)
        for line in said.split("\n"):
            self._file.write(f"{_moment(now)} {name:{self._width}}  {line}")
            if self._stream is not None:
                with suppress(OSError, ValueError):  # a terminal that was closed
                    self._stream.write(f"{self._shown(name, now, line, alarm)}\n")
                    self._stream.flush()

    def _shown(self, name: str, now: float, line: str, alarm: bool) -> str:
        when, who = of_day(now), f"{name:{self._width}}"
        if not self._colour:
            return f"{who}  {when}  {line}"
        who, when = _painted(who, self._colours.get(name, _DIM)), _painted(when, _DIM)
        return f"{who}  {when}  {_painted(line, _RED) if alarm else line}"


def _painted(text: str, colour: int) -> str:
    return f"\033[{colour}m{text}\033[0m"


def _moment(at: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"
