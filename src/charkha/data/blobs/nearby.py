"""Blobs near and far: a store close by (a folder) in front of one that others share (a bucket).

A blob is written to both, so that a team finds it far and a second look finds it near; it is read
near first, and kept there when it had to be fetched. Notes live far alone: a blob never changes, but
a set of notes does, and a copy of it could not be used without asking the far store again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from charkha.errors import Damaged, NotFound

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore


class NearbyBlobs:
    """A BlobStore made of two."""

    def __init__(self, near: BlobStore, far: BlobStore) -> None:
        self._near, self._far = near, far

    def put(self, content: BinaryIO) -> str:
        key = self._near.put(content)
        if self._far.size(key) is None:
            with self._near.open(key) as kept:
                self._far.put(kept)
        return key

    def open(self, key: str) -> BinaryIO:
        try:
            return self._near.open(key)
        except NotFound:
            self._fetch(key)
        return self._near.open(key)

    def size(self, key: str) -> int | None:
        near = self._near.size(key)
        return self._far.size(key) if near is None else near

    def remove(self, key: str) -> None:
        self._far.remove(key)  # first, or a reader in between would fetch it again
        self._near.remove(key)

    def note(self, name: str, record: bytes) -> None:
        self._far.note(name, record)

    def notes(self, name: str) -> list[bytes]:
        return self._far.notes(name)

    def unnote(self, name: str, record: bytes) -> None:
        self._far.unnote(name, record)

    def _fetch(self, key: str) -> None:
        with self._far.open(key) as blob:
            found = self._near.put(blob)
        if found != key:  # damaged far away; under its own name it would only be in the way
            self._near.remove(found)
            raise Damaged(f"the far copy of {key[:12]}… has other bytes than were stored", key=key)


if TYPE_CHECKING:
    from charkha.data.blobs.memory import MemoryBlobs

    _: BlobStore = NearbyBlobs(MemoryBlobs(), MemoryBlobs())
