"""How large a message of an Arrow IPC stream becomes, told before anything is decompressed.

A kilobyte of zstd can hold 30 MB, and Arrow's reader cannot be given a limit. But each compressed buffer
begins with its size (IPC format, `BodyCompression`), and the reader refuses one that becomes more; where
the buffers stand is said by the message's flatbuffer.
"""

from __future__ import annotations

import struct
from struct import Struct

from charkha.serving.dialects.tables import Unsafe

_I32, _U32, _U16, _I64, _PAIR = (Struct(f"<{kind}") for kind in ("i", "I", "H", "q", "qq"))
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # of MessageHeader


def message_size(metadata: memoryview, body: memoryview) -> tuple[int, int]:
    """Return rows and bytes of an IPC message; a dictionary and a schema have no rows.

    Args:
        metadata: the message's flatbuffer.
        body: its buffers.

    Raises:
        Unsafe: they do not fit together.
    """
    try:
        message = _Table(metadata, _U32.unpack_from(metadata)[0])
        at = message.field(1)
        kind = 0 if at is None else metadata[at]
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return 0, 0
        batch = message.table(2)
        if kind == _DICTIONARY_BATCH:
            batch = batch.table(1)
        rows = batch.i64(0) if kind == _RECORD_BATCH else 0
        if batch.field(3) is None:  # it is not compressed
            return rows, len(body)
        return rows, sum(
            _buffer_size(body, offset, length) for offset, length in batch.pairs(2) if length
        )
    except (struct.error, IndexError) as e:
        raise Unsafe("its messages cannot be read") from e


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _I32.unpack_from(data, at)[0]

    def field(self, number: int) -> int | None:
        """Return where a field stands, None where it is left out."""
        slot = 4 + 2 * number
        if slot >= _U16.unpack_from(self._data, self._fields)[0]:
            return None
        offset = _U16.unpack_from(self._data, self._fields + slot)[0]
        return self._at + offset if offset else None

    def i64(self, number: int) -> int:
        at = self.field(number)
        found: int = 0 if at is None else _I64.unpack_from(self._data, at)[0]
        return found

    def table(self, number: int) -> _Table:
        return _Table(self._data, self._follow(number))

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two 64-bit integers."""
        at = self._follow(number)
        count = _U32.unpack_from(self._data, at)[0]
        return list(_PAIR.iter_unpack(self._data[at + 4 : at + 4 + _PAIR.size * count]))

    def _follow(self, number: int) -> int:
        at = self.field(number)
        if at is None:
            raise Unsafe("a message lacks a part")
        follows: int = at + _U32.unpack_from(self._data, at)[0]
        return follows


def _buffer_size(body: memoryview, offset: int, length: int) -> int:
    if offset < 0 or length < 8 or offset + length > len(body):
        raise Unsafe("a buffer lies outside of its message")
    size: int = _I64.unpack_from(body, offset)[0]
    return length - 8 if size == -1 else max(size, 0)
