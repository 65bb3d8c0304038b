"""What a log holds: its sources and rows in pieces, and the lines that nobody can read."""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from charkha.errors import Damaged, UserError
from charkha.serving.records.ids import is_id
from charkha.serving.records.lines import (
    FORMAT,
    Stored,
    StoredTruth,
    decode_head,
    decode_record,
    decode_source,
    decode_truth,
)
from charkha.serving.records.log import NEW, SUFFIX
from charkha.serving.records.source import Source

PIECE_BYTES = 4 << 20  # of lines whose rows are in memory at once


class LogFile(NamedTuple):
    """A log in the folder of the open ones."""

    path: Path
    kind: str  # "predictions" | "feedback"
    name: str  # that of its files when it is sealed: the UUIDv7 of its own


class Piece(NamedTuple):
    """Some records of a log, all of one source."""

    number: int  # of the source in its log
    source: Source
    rows: list[Stored]


def list_logs(folder: Path) -> list[LogFile]:
    """Return the logs in a folder, open and closed ones, oldest first."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for file in names:
        kind, _, name = file.removesuffix(SUFFIX).partition("-")
        if file.endswith(SUFFIX) and kind in ("predictions", "feedback"):
            found.append(LogFile(folder / file, kind, name))
    return sorted(found, key=lambda log: log.name)


def list_unseen(folder: Path) -> list[Path]:
    """Return files that a process was about to make when it ended, or is about to make."""
    return sorted(folder.glob(f"*{SUFFIX}{NEW}"))


def take(path: Path) -> int | None:
    """Lock a log that nobody holds; return its descriptor, or None where somebody does.

    Raises:
        FileNotFoundError: it is gone.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


class Replay:
    """One log, read from its first line to its last whole one.

    Raises:
        Damaged: it does not begin as a log does.
        UserError: another version of Charkha wrote it.
        FileNotFoundError: it is gone; also while its rows are read.
    """

    def __init__(self, log: LogFile) -> None:
        self.damaged: list[bytes] = []  # lines; complete when the rows were read
        self._path = log.path
        with open(log.path, "rb") as file:
            first = file.readline()
        if not first.endswith(b"\n"):  # not even a head: it ended before it began
            return
        head = decode_head(first)
        if head is None or head.charkha != log.kind:
            raise Damaged(f"{log.path} does not begin as a log does", key=log.path.name)
        if head.format != FORMAT:
            raise UserError(
                f"{log.path} is of format {head.format}, and this Charkha reads {FORMAT}",
                fix="use the version of Charkha that wrote it, or a newer one",
            )

    def predictions(self, ids: Container[bytes] | None = None) -> Iterator[Piece]:
        """Yield records in pieces of one source each, in the order of the log within a source.

        Args:
            ids: of these only; lines of others are not decoded.
        """
        sources: dict[int, Source] = {}
        waiting: dict[int, list[Stored]] = defaultdict(list)
        size: dict[int, int] = defaultdict(int)
        for line in self._lines():
            if line.startswith(b"{"):
                declared = decode_source(line)
                if declared is None:
                    self.damaged.append(line)
                else:
                    sources.setdefault(*declared)
                continue
            if ids is not None and _id_of(line) not in ids:
                continue
            record = decode_record(line)
            if record is None or not _fits(record, sources.get(record[0])):
                self.damaged.append(line)
                continue
            number = record[0]
            waiting[number].append(record)
            size[number] += len(line)
            if size[number] >= PIECE_BYTES:
                yield Piece(number, sources[number], waiting.pop(number))
                size[number] = 0
        for number, rows in waiting.items():
            yield Piece(number, sources[number], rows)

    def models(self) -> set[str]:
        """Return the models of which there are records."""
        declared = (decode_source(line) for line in self._lines() if line.startswith(b"{"))
        return {found[1].model for found in declared if found is not None}

    def truths(self, ids: Container[bytes] | None = None) -> Iterator[list[StoredTruth]]:
        """Yield ground truths in pieces, in the order of the log; of these ids only."""
        rows: list[StoredTruth] = []
        size = 0
        for line in self._lines():
            if ids is not None and _id_of(line) not in ids:
                continue
            truth = decode_truth(line)
            if truth is None or not is_id(truth[0]):
                self.damaged.append(line)
                continue
            rows.append(truth)
            size += len(line)
            if size >= PIECE_BYTES:
                yield rows
                rows, size = [], 0
        if rows:
            yield rows

    def _lines(self) -> Iterator[bytes]:
        """Yield what follows the head, up to a line that a write() that was cut short left behind."""
        with open(self._path, "rb") as file:
            file.readline()
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line


def _id_of(line: bytes) -> bytes:
    """Return the id in a line that was not decoded: its first text."""
    return line.partition(b'"')[2][:36]


def _fits(record: Stored, source: Source | None) -> bool:
    if source is None or len(record[6]) != len(source.inputs):
        return False
    shares = record[8]
    return shares is None or source.classes is None or len(shares) == len(source.classes)
