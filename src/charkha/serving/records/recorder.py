"""The recorder: what a server calls with the predictions of a batch, before it answers.

What a setting hides is gone before anything is written, and so is what is not sampled. Whether a
prediction is in the sample follows from its id alone: `crc32(id) < sample * 2**32`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from charkha.errors import Unavailable
from charkha.serving.records.lines import encode_records, encode_source
from charkha.serving.records.log import Log

if TYPE_CHECKING:
    from charkha.serving.records.source import Record, Source

_logger = logging.getLogger(__name__)


class Recorder:
    """Keeps predictions. Safe to share between threads; a child of fork() keeps its own.

    Args:
        folder: of the open logs; on a local disk.
        durability: what a record outlives when `append` returns: the end of the "process", or the
            loss of "power".
        sample: the share of the predictions that is kept, 0 to 1.
        redact: names of inputs and entities (or the target) whose values are not kept.
        on_full: what becomes of predictions that cannot be recorded: "serve" lets them go,
            "refuse" raises.
        segment_bytes: a log of that size is followed by another …
        segment_s: … and one of that age.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Literal["process", "power"] = "process",
        sample: float = 1.0,
        redact: Sequence[str] = (),
        on_full: Literal["serve", "refuse"] = "serve",
        segment_bytes: int = 64 << 20,
        segment_s: float = 3600,
    ) -> None:
        self._log = Log(
            folder,
            "predictions",
            power=durability == "power",
            segment_bytes=segment_bytes,
            segment_s=segment_s,
        )
        self._below = round(sample * 2**32)
        self._redact = frozenset(redact)
        self._refuse = on_full == "refuse"
        self._sources: list[_Declared] = []
        self.skipped = 0  # rows that were not in the sample

    @property
    def written(self) -> int:
        """Rows that are kept."""
        return self._log.written

    @property
    def lost(self) -> int:
        """Rows that could not be kept."""
        return self._log.lost

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write failed."""
        return self._log.failing

    @property
    def bytes_written(self) -> int:
        """Bytes in all logs."""
        return self._log.bytes_written

    def declare(self, source: Source) -> int:
        """Return the number under which records of this source are appended.

        It opens the log, so that `failing` tells of a folder that cannot be written to.
        """
        self._sources.append(_Declared(len(self._sources), source, self._redact))
        self._log.prepare()
        return len(self._sources) - 1

    def append(self, source: int, records: Sequence[Record]) -> None:
        """Keep records, with one write().

        Raises:
            Unavailable: they cannot be kept, and `on_full` is "refuse".
        """
        declared = self._sources[source]
        if self._below < 2**32:
            taken = [r for r in records if crc32(r[0].encode()) < self._below]
            self.skipped += len(records) - len(taken)
            records = taken
        if not records:
            return
        if declared.hides:
            records = [declared.hide(record) for record in records]
        lines = encode_records(source, records, numbers=declared.numbers)
        kept = self._log.append(lines, len(records), source, declared.line)
        if not kept and self._refuse:
            raise Unavailable(
                f"predictions cannot be recorded in {self._log.folder}",
                fix='free some disk space there, or set [records] on_full = "serve"',
            )

    def turn(self) -> None:
        """Let go of a log that is old enough; to be called every now and then."""
        self._log.turn()

    def close(self) -> None:
        """Let go of the log, so that it can be sealed."""
        self._log.close()


class _Declared:
    """A source as this recorder writes it."""

    def __init__(self, number: int, source: Source, redact: frozenset[str]) -> None:
        self.line = encode_source(number, source)
        names = [str(column["name"]) for column in source.inputs]
        self._kept = [name not in redact for name in names]
        self._redact = redact
        self._whole = source.target in redact
        self.hides = bool(redact)  # entities have names that no signature tells
        self.numbers = source.classes is None and not self._whole
        for name in redact.difference(names, {source.target}):
            near = get_close_matches(name, names, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            _logger.warning("%s has no input %r to redact%s", source.model, name, meant)

    def hide(self, record: Record) -> Record:
        id, at_us, latency_us, key, entities, inputs, value, shares = record
        kept = tuple(v if keep else None for v, keep in zip(inputs, self._kept, strict=True))
        if entities is not None:
            entities = {n: v for n, v in entities.items() if n not in self._redact}
        if self._whole:
            value = shares = None
        return (id, at_us, latency_us, key, entities, kept, value, shares)
