"""Place: put, open, names, folders."""

from __future__ import annotations

from typing import BinaryIO, Protocol


class Place(Protocol):
    """Where sealed files lie, under names such as `model=prices/day=2026-11-24/a.parquet`.

    A file is there in full or not at all. Safe to share between threads and processes, of which no
    two put the same name at the same time.

    Raises:
        CharkhaError: (from every method) the place refuses, or does not answer.
    """

    def put(self, name: str, content: bytes) -> None:
        """Keep a file; one of the same name is replaced. When it returns, it outlives a crash."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; it can be sought in.

        Raises:
            NotFound: there is no such file.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder (`model=prices/day=2026-11-24/`), sorted."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder ("" is the top), sorted, each with its /."""
        ...
