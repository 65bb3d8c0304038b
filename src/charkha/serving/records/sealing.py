"""Sealing: logs that nobody writes any more become Parquet files, each record exactly once.

A log is read, its files are put where they belong under names that follow from it, and then it is
removed: that is the moment from which the files count. Killed before, the same is done again, and
replaces what was there; a reader takes the log for as long as there is one. It runs as a process of
its own (`python -m charkha.serving.records.sealing`), because it brings pyarrow and takes a core.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from charkha.data.refusals import refused
from charkha.errors import DONE, BackendError, CharkhaError, Damaged
from charkha.serving.records import address_of, open_folder
from charkha.serving.records.ids import time_of
from charkha.serving.records.layout import (
    FEEDBACK,
    day_folder,
    day_of_us,
    file_name,
    model_folder,
)
from charkha.serving.records.lines import Stored, StoredTruth
from charkha.serving.records.places import Address, open_place
from charkha.serving.records.replay import LogFile, Replay, list_logs, list_unseen, take
from charkha.serving.records.tables import (
    as_parquet,
    predictions_table,
    together,
    truths_table,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from charkha.project import Project
    from charkha.serving.records.places.port import Place

LOCK = "sealing.lock"
DAMAGED = "damaged"
_ABANDONED_S = 3600  # a file that has had no name for so long will never have one
_log = logging.getLogger(__name__)
_Row = TypeVar("_Row", Stored, StoredTruth)


@dataclass(kw_only=True)
class Sealed:
    """What one walk over a folder did."""

    logs: int = 0
    rows: int = 0
    files: int = 0
    damaged: int = 0  # lines that were set aside
    problems: list[CharkhaError] = field(default_factory=list)  # each kept a log where it is


def seal(folder: Path, place: Place) -> Sealed:
    """Seal every log in `folder` that no living process writes.

    At once only one process works on a folder; the second finds nothing to do.

    Raises:
        CharkhaError: the place refuses, or the disk. What was not sealed is still a log.
    """
    done = Sealed()
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:  # nothing was ever recorded here
        return done
    except OSError as e:
        raise refused(e, str(folder)) from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in list_unseen(folder):
            _remove_abandoned(path)
        for log in list_logs(folder):
            _seal_log(log, place, done)
    except BlockingIOError:
        _log.info("another process seals %s", folder)
    except OSError as e:
        raise refused(e, str(folder)) from e
    finally:
        os.close(lock)
    return done


def seal_project(project: Project) -> Sealed:
    """Seal the logs of a project. Raises as `seal`, and for a log that nobody can read."""
    done = seal(open_folder(project), open_place(address_of(project)))
    if done.problems:
        raise done.problems[0]
    return done


def _seal_log(log: LogFile, place: Place, done: Sealed) -> None:
    with suppress(FileNotFoundError):
        lock = take(log.path)
        if lock is None:
            return
        try:
            replay = Replay(log)
            rows = files = 0
            for name, table in _tables(log, replay):
                place.put(name, as_parquet(table))
                rows, files = rows + table.num_rows, files + 1
            _set_aside(log, replay.damaged)
            os.unlink(log.path)  # from here on the files count
            _sync(log.path.parent)
        except Damaged as e:
            done.problems.append(e)
            _rename_aside(log)
            _log.error("%s", e)
        except CharkhaError as e:
            if isinstance(e, BackendError):
                raise
            done.problems.append(e)  # of this log alone
            _log.error("%s", e)
        else:
            done.logs, done.rows, done.files = done.logs + 1, done.rows + rows, done.files + files
            done.damaged += len(replay.damaged)
        finally:
            os.close(lock)


def _tables(log: LogFile, replay: Replay) -> Iterator[tuple[str, pa.Table]]:
    """Yield each file's name with its table."""
    parts: dict[tuple[str, int], list[pa.Table]] = defaultdict(list)
    if log.kind == "feedback":
        for truths in replay.truths():
            for day, rows in _by_day(truths, [time_of(truth[0]).date() for truth in truths]):
                parts[day_folder(FEEDBACK, day), 0].append(truths_table(rows))
    else:
        for piece in replay.predictions():
            days = [day_of_us(record[2]) for record in piece.rows]
            for day, records in _by_day(piece.rows, days):
                folder = day_folder(model_folder(piece.source.model), day)
                parts[folder, piece.number].append(predictions_table(piece.source, records))
    for (folder, number), tables in parts.items():
        table = together(tables).replace_schema_metadata(tables[0].schema.metadata)
        yield folder + file_name(log.name, number), table


def _by_day(rows: Sequence[_Row], days: Sequence[date]) -> Iterator[tuple[date, list[_Row]]]:
    found: dict[date, list[_Row]] = defaultdict(list)
    for row, day in zip(rows, days, strict=True):
        found[day].append(row)
    yield from found.items()


def _set_aside(log: LogFile, lines: Sequence[bytes]) -> None:
    if not lines:
        return
    aside = log.path.parent / DAMAGED
    aside.mkdir(exist_ok=True)
    path = aside / f"{log.kind}-{log.name}.lines"
    with open(path, "wb") as file:
        file.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())
    _sync(aside)
    _log.error("%d damaged lines of %s are in %s", len(lines), log.path.name, path)


def _rename_aside(log: LogFile) -> None:
    aside = log.path.parent / DAMAGED
    aside.mkdir(exist_ok=True)
    os.rename(log.path, aside / log.path.name)


def _remove_abandoned(path: Path) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            lock = take(path)
            if lock is not None:
                path.unlink()
                os.close(lock)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main(arguments: Sequence[str]) -> int:
    """Seal once: two arguments, the folder, and the address of the place in JSON."""
    folder, address = arguments
    os.nice(19)  # requests come first
    logging.basicConfig(format="%(message)s")
    try:
        done = seal(Path(folder), open_place(Address(**json.loads(address))))
    except CharkhaError as e:
        _log.error("%s", e)
        return e.exit_code
    return done.problems[0].exit_code if done.problems else DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
