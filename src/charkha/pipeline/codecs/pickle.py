"""Any object as a pickle, for projects that say `allow_pickle = true`.

Reading a pickle runs the code that it names, so whoever can write to the blobs can run code where
they are read. The bytes of equal values may differ: pickle writes what is shared inside a value and
a set in the order of its hashes, so early cut-off is missed more often than with the other codecs.
"""

from __future__ import annotations

import pickle  # the project asked for it
from typing import TYPE_CHECKING

from charkha.errors import UserError

_PROTOCOL = 5  # fixed: a later default would be other bytes for the same value


class PickleCodec:
    """A Codec for what nothing else keeps."""

    name = "pickle"

    def encode(self, value: object) -> bytes:
        try:
            return pickle.dumps(value, protocol=_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as e:
            raise UserError(
                f"a {type(value).__qualname__} cannot be pickled: {e}",
                fix="define its class and functions at the top of a module, not inside a function",
            ) from e

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        try:
            return pickle.loads(data)  # noqa: S301
        except (ModuleNotFoundError, AttributeError) as e:
            raise UserError(
                f"a pickle needs code that is not here: {e}",
                fix="bring the module back, or run the step again with `charkha run`",
            ) from e
        except (pickle.UnpicklingError, EOFError, LookupError, UnicodeDecodeError) as e:
            raise ValueError("not a pickle") from e

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        return []  # telling would mean to run what the bytes say


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _: Codec = PickleCodec()
