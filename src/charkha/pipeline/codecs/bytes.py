"""Bytes as themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING


class BytesCodec:
    """A Codec for `bytes`, whose stored form is the value."""

    name = "bytes"

    def encode(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise TypeError(f"bytes are wanted, this is a {type(value).__name__}")

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        return bytes(data)

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        if longer := len(new) - len(old):
            return [f"{abs(longer)} bytes {'more' if longer > 0 else 'fewer'}"]
        pairs = enumerate(zip(old, new, strict=True))
        first = next((i for i, (before, after) in pairs if before != after), None)
        return [] if first is None else [f"bytes from number {first} on"]


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _: Codec = BytesCodec()
