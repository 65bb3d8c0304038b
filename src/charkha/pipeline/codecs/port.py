"""Codec: encode a value of certain types to bytes, and back."""

from __future__ import annotations

from typing import Protocol


class Codec(Protocol):
    """One way to turn values into bytes, the same bytes for the same value on every machine."""

    name: str
    """What is recorded with the artifact, and what `plugins.find("codecs", name)` finds."""

    def encode(self, value: object) -> bytes | memoryview:
        """Return the bytes of `value`.

        Raises:
            UserError: this value of the type has no faithful form (a column of mixed types, say).
        """
        ...

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        """Return the value; as a `wanted` where the codec offers several types for its bytes.

        Raises:
            UserError: these bytes can not be had as `wanted`.
            ValueError: these are not bytes of this codec.
        """
        ...

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        """Name what differs, for a person: ["column Gr_Liv_Area", "120 rows more"]; [] if unknown."""
        ...
