"""BlobStore: put, open, size, remove, note, notes."""

from __future__ import annotations

from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Bytes kept under the name of their content, and small notes kept under a name.

    A blob, once written, never changes. A note is a set: what was added stays beside what others
    add, so two writers need no lock. Safe to share between threads and processes.
    """

    def put(self, content: BinaryIO) -> str:
        """Keep the bytes from the stream's position on; return their key (sha-256, 64 hex).

        Raises:
            Unavailable: they could not be written (a full disk, no network).
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """Open the blob for reading from its first byte. The bytes are not verified here.

        Raises:
            NotFound: no blob has this key.
        """
        ...

    def size(self, key: str) -> int | None:
        """Return the blob's length in bytes, or None where `open(key)` would not find it."""
        ...

    def remove(self, key: str) -> None:
        """Forget the blob. Forgetting what is not there is no error."""
        ...

    def note(self, name: str, record: bytes) -> None:
        """Add a record (some kilobytes at most) to the set called `name` (letters, digits, -_.).

        A name may have parts, as in `run/step`; what is in `run/step` is in `run` as well.
        """
        ...

    def notes(self, name: str) -> list[bytes]:
        """Return every record of the set called `name`, newest last; empty when there is none.

        One look, however many parts the set has.
        """
        ...

    def unnote(self, name: str, record: bytes) -> None:
        """Take a record out of the set. Taking out what is not there is no error."""
        ...
