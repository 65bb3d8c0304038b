"""Blobs in a dictionary: for the tests of a project that wants no files."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO

from charkha.errors import NotFound


class MemoryBlobs:
    """A BlobStore that ends with its process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._notes: dict[tuple[str, bytes], None] = {}  # a dict keeps the order of arrival

    def put(self, content: BinaryIO) -> str:
        data = content.read()
        key = hashlib.sha256(data).hexdigest()
        self._blobs[key] = data
        return key

    def open(self, key: str) -> BinaryIO:
        try:
            return io.BytesIO(self._blobs[key])
        except KeyError as e:
            raise NotFound(f"no blob {key[:12]}… in memory") from e

    def size(self, key: str) -> int | None:
        return len(self._blobs[key]) if key in self._blobs else None

    def remove(self, key: str) -> None:
        self._blobs.pop(key, None)

    def note(self, name: str, record: bytes) -> None:
        self._notes[name, record] = None

    def notes(self, name: str) -> list[bytes]:
        return [
            record for own, record in list(self._notes) if own == name or own.startswith(f"{name}/")
        ]

    def unnote(self, name: str, record: bytes) -> None:
        self._notes.pop((name, record), None)


if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore

    _: BlobStore = MemoryBlobs()
