"""How commands print: results on stdout, as text or with `--json`; everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec


def as_json(value: object) -> None:
    """Print one JSON document on stdout; what JSON does not know is text, infinity and NaN are null."""
    json.dump(_plain(value), sys.stdout, indent=2, ensure_ascii=_is_narrow(), default=str)
    sys.stdout.write("\n")


def as_line(value: object) -> None:
    """Print one JSON document on a line of its own, at once: an event among others."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=_is_narrow(), default=str) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    """Return a value as strict JSON has it: all numbers finite, moments in ISO 8601."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_narrow() -> bool:
    """Whether stdout lacks most letters, which JSON then writes as escapes of its own."""
    return (sys.stdout.encoding or "utf-8").lower() != "utf-8"


def note(text: str) -> None:
    """Tell a person something that is not the result: on stderr, where a pipe does not see it."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below their columns' names; None is an empty cell, numbers stand to the right."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(columns))
    ]

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    print(bold(line(columns)))
    for row in cells:
        print(line(row))


def bold(text: str) -> str:
    """Return the text in bold where stdout is a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that `text` («pulling ames from s3://…») is going on: a spinner, or a line in a log."""
    if sys.stderr.isatty() and find_spec("rich"):
        console = import_module("rich.console").Console(stderr=True)  # late: 60 ms
        with console.status(text):
            yield
    else:
        note(text)
        yield


def duration(seconds: float) -> str:
    """Return `340 ms`, `1.2 s`, `3 min 5 s` or `2 h 4 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Return `512 B`, `3.1 MB`; a kB is 1,000 bytes."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
