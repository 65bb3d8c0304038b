"""DataSource: where `charkha data add` takes data from; a name, an origin, and fetch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come and, where it is known, how many there are."""


class DataSource(Protocol):
    """One file or folder somewhere else."""

    @property
    def file_name(self) -> str:
        """What it is called there (`ames.parquet`); decides the dataset's name and its type."""
        ...

    @property
    def origin(self) -> str | None:
        """Where it came from, to be written down with no signature in it; None: here."""
        ...

    def fetch(self, into: Path, progress: Progress) -> Path:
        """Bring all of it into the empty folder `into`; return the file or the folder that came.

        Raises:
            NotFound: there is no such thing.
            Unavailable: it did not answer, or broke off; what came is not all of it.
            UserError: it has to be asked for in another way (credentials, an address).
            BackendError: it refused.
        """
        ...
