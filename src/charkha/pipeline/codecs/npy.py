"""numpy arrays in numpy's own .npy format (NEP 1), without its pickles.

The bytes follow from dtype, shape and elements: a Fortran-ordered array is written in C order, and
the gaps between the fields of a record are zeroed, for what lies there is no part of the value.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from charkha.errors import UserError

_READABLE = "biufcSUMmV"  # kinds of dtype that .npy keeps without pickle
_GARBAGE = (SyntaxError, TypeError, LookupError, OverflowError)  # besides ValueError


class NpyCodec:
    """A Codec for numpy arrays. What comes back is a copy that may be written to.

    (A view of the bytes would be read-only, so a step would behave otherwise than in its unit test;
    the copy costs less than the sha-256 that every load checks.)
    """

    name = "npy"

    def encode(self, value: object) -> memoryview:
        if type(value) is not np.ndarray:
            raise UserError(
                f"a {type(value).__qualname__} is not a plain array and would come back as one",
                fix="return np.asarray(value), and its mask, if it has one, beside it",
            )
        if value.dtype.hasobject or value.dtype.kind not in _READABLE:
            raise UserError(
                f"an array of dtype {value.dtype} has elements of any type",
                fix="give it a dtype with array.astype(float) or array.astype(str), "
                "or return array.tolist()",
            )
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a long header needs version 2
            npy.write_array(buffer, without_gaps(np.asarray(value, order="C")), allow_pickle=False)
        return buffer.getbuffer()

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        stream = io.BytesIO(data)
        try:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        except _GARBAGE as e:
            raise ValueError("not an .npy file") from e
        if stream.read(1):
            raise ValueError("an .npy file with something behind it")
        return array

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        before: Any = self.decode(old, None)
        after: Any = self.decode(new, None)
        if before.dtype != after.dtype:
            return [f"dtype {before.dtype} → {after.dtype}"]
        if before.shape != after.shape:
            return [f"shape {before.shape} → {after.shape}"]
        if before.dtype.kind == "V":
            return []
        same = before == after
        if before.dtype.kind in "fcMm":
            same |= np.isnan(before) & np.isnan(after)
        changed = np.argwhere(np.atleast_1d(~same))
        if not len(changed):
            return ["signs of zeros or bits of NaNs"] if before.tobytes() != after.tobytes() else []
        first = ", ".join(map(str, changed[0]))
        return [f"{len(changed)} of {before.size} elements, the first at [{first}]"]


def without_gaps(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array`, or a copy whose bytes between the fields of its records are zero."""
    if array.dtype.names is None:
        return array
    used = np.zeros(array.dtype.itemsize, bool)
    _mark(array.dtype, 0, used)
    if used.all():
        return array
    clean = array.copy(order="A")
    rows = clean.ravel(order="K").view(np.uint8).reshape(clean.size, -1)
    rows[:, ~used] = 0
    return rows.view(array.dtype).reshape(array.shape, order="F" if array.flags.fnc else "C")


def _mark(dtype: np.dtype[Any], start: int, used: NDArray[np.bool_]) -> None:
    """Set in `used` the bytes that belong to a field of `dtype`, which begins at byte `start`."""
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        for i in range(math.prod(shape)):
            _mark(item, start + i * item.itemsize, used)
    elif dtype.fields is not None:
        for field, offset, *_ in dtype.fields.values():
            _mark(field, start + offset, used)
    else:
        used[start : start + dtype.itemsize] = True


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _codec: Codec = NpyCodec()
