"""Whether a version of a dataset has become too old, found out without reading it twice."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from charkha.data.checks import Failure, check_age, read_rules
from charkha.data.late import late
from charkha.data.pointers import Pointer


def failures(pointer: Pointer, md5: str, checks_file: Path, state: Path) -> list[Failure]:
    """Hold the age of the data against its freshness rule, as of now.

    The newest moment in a column is read once for each version and remembered under `state`. Data
    that is not here and was never read is taken for fresh: there is nothing to look at.

    Raises:
        DataError: there is no checks file, or the data cannot be read.
        ProjectError: the checks file is wrong.
    """
    rules = read_rules(checks_file)
    if rules.freshness is None:
        return []
    if (column := rules.freshness.column) is None:
        newest: datetime | None = _added(pointer)
    else:
        memory = state / "newest" / f"{md5}.json"
        remembered = _recall(memory)
        if column not in remembered:
            if not pointer.path.exists():
                return []
            remembered[column] = _newest(pointer.path, column)
            _remember(memory, remembered)
        text = remembered[column]
        newest = None if text is None else datetime.fromisoformat(text)
    return check_age(rules, newest, datetime.now(UTC))


def _added(pointer: Pointer) -> datetime:
    """Return when this version was added; for one that plain DVC added, when its pointer was written."""
    if pointer.added is not None:
        return datetime.fromisoformat(pointer.added)
    return datetime.fromtimestamp(pointer.file.stat().st_mtime, UTC)


def _newest(path: Path, column: str) -> str | None:
    frame = late("charkha.data.tables", extra="tables").read_frame(path)
    moment: datetime | None = late("charkha.data.pandera", extra="checks").newest(frame, column)
    return None if moment is None else moment.isoformat()


def _recall(memory: Path) -> dict[str, str | None]:
    try:
        remembered = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def _remember(memory: Path, moments: dict[str, str | None]) -> None:
    partial = memory.with_name(f"{memory.name}.{os.getpid()}.partial")
    with suppress(OSError):  # a state that cannot be written is slower, not an error
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(moments), "utf-8")
        os.replace(partial, memory)
