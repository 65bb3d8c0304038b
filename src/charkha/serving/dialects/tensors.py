"""Tensors of the Open Inference Protocol: their values out of JSON and binary data, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from struct import Struct as Packed
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from charkha.serving.dialects.loose_json import NO_JSON
from charkha.serving.schema import misfit

_LENGTH = Packed("<I")
FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
INTEGERS = {
    f"{kind}{bits}": f"<{letter}{bits // 8}"
    for kind, letter in (("INT", "i"), ("UINT", "u"))
    for bits in (8, 16, 32, 64)
}
_DTYPES = {"BOOL": "u1", **INTEGERS, **FLOATS}  # little-endian, as the extension has it
DATATYPES = (*_DTYPES, "BYTES")
SAID = {float: "FP64", int: "INT64", bool: "BOOL", str: "BYTES"}  # datatypes of what is answered


class Parameters(Struct, gc=False):
    """What is said beside a tensor."""

    binary_data_size: Annotated[int, Meta(ge=0)] | None = None
    content_type: str | None = None


class Tensor(Struct, gc=False):
    """A tensor of a request."""

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: list[Any] | None = None
    parameters: Parameters | None = None


def read_values(
    tensor: Tensor, at: int, count: int, tail: memoryview
) -> tuple[Sequence[Any], memoryview]:
    """Return the values of a tensor, flat, and the binary data of those that follow.

    Args:
        tensor: of a known datatype.
        at: which of the request's inputs it is.
        count: of the values, as its shape says.
        tail: the binary data that no tensor has taken yet.

    Raises:
        Problem: 422, they are not as many as the shape says, or cannot be read.
    """
    parameters = tensor.parameters
    size = None if parameters is None else parameters.binary_data_size
    if size is None:
        return _listed(tensor, at, count), tail
    if size > len(tail):
        said = f"Expected {size:,} bytes of binary data, got {len(tail):,}"
        raise misfit(said, f"/inputs/{at}/parameters/binary_data_size", None, tensor.name)
    part, rest = tail[:size], tail[size:]
    if tensor.datatype == "BYTES":
        return _texts(part, at, count, tensor.name), rest
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if dtype.itemsize * count != size:
        said = f"Expected {dtype.itemsize * count:,} bytes for the shape, got {size:,}"
        raise misfit(said, f"/inputs/{at}/parameters/binary_data_size", None, tensor.name)
    if count == 0:
        return [], rest
    array = np.frombuffer(part, dtype)
    if tensor.datatype in FLOATS and not np.isfinite(array).all():
        return [value if math.isfinite(value) else None for value in array.tolist()], rest
    return array.tolist(), rest


def _listed(tensor: Tensor, at: int, count: int) -> list[Any]:
    values = tensor.data
    if values is None:
        raise misfit("it has no data", f"/inputs/{at}", None, tensor.name)
    if values and isinstance(values[0], list):
        if not all(isinstance(part, list) for part in values):
            raise misfit("Expected a list in each list", f"/inputs/{at}/data", None, tensor.name)
        values = list(chain.from_iterable(values))
    if len(values) != count:
        said = f"Expected {count:,} values for the shape, got {len(values):,}"
        raise misfit(said, f"/inputs/{at}/data", None, tensor.name)
    if tensor.parameters is not None and tensor.parameters.content_type == "pd_json":
        return [_parsed(value, at, row, tensor.name) for row, value in enumerate(values)]
    return values


def _parsed(value: object, at: int, row: int, name: str) -> object:
    """Return what MLServer's codec of pandas has written as JSON, for a column of mixed values."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except NO_JSON as e:
        raise misfit("Expected JSON in the text", f"/inputs/{at}/data/{row}", row, name) from e


def _texts(part: memoryview, at: int, count: int, name: str) -> list[str]:
    """Return elements that each stand behind their length in four bytes."""
    texts: list[str] = []
    start, end = 0, len(part)
    while start < end and len(texts) < count:
        begin = start + 4
        start = begin + (_LENGTH.unpack_from(part, start)[0] if begin <= end else end)
        if start > end:
            break
        try:
            texts.append(str(part[begin:start], "utf-8"))
        except UnicodeDecodeError as e:
            row = len(texts)
            raise misfit("Expected UTF-8", f"/inputs/{at}/data/{row}", row, name) from e
    if start != end or len(texts) != count:
        said = f"the binary data is not {count:,} elements, each behind its length"
        raise misfit(said, f"/inputs/{at}/parameters/binary_data_size", None, name)
    return texts


def pack(values: Sequence[Any], kind: type) -> bytes:
    """Return values of one type as binary data."""
    if kind is not str:
        return np.array(values, dtype=_DTYPES[SAID[kind]]).tobytes()
    texts = [value.encode() for value in values]
    return b"".join([part for text in texts for part in (_LENGTH.pack(len(text)), text)])
