"""A constant as the cache sees it: by what it holds, where that can be told without running code.

Functions, classes and objects of the project's own classes are told by name, and the names are
handed back to be followed: so a registry counts with what was registered, wherever that was done.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import cast

_PLAIN_AT_MOST = 20_000  # elements, above which the statement that makes it is taken instead
_DEEP_AT_MOST = 50  # also ends a list that holds itself
_DIGITS_AT_MOST = 4_000  # bits / 3.3; Python refuses to write longer numbers in decimal
_FAITHFUL = frozenset(  # types whose repr says everything
    {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "builtins.range", "builtins.slice"}
    | {"datetime.date", "datetime.time", "datetime.datetime", "datetime.timedelta"}
    | {f"numpy.{kind}{bits}" for kind in ("float", "int") for bits in (32, 64)}
)
_READABLE = (bool, int, float, type(None))

Reference = tuple[str, str]  # module, name at its top level


class Contents:
    """What a value holds, in words; `references` are the functions and classes among it."""

    def __init__(self, root: str, is_ours: Callable[[str], bool]) -> None:
        self._root, self._is_ours = root, is_ours
        self.references: list[Reference] = []
        self._count = 0

    def text(self, value: object, depth: int = 0) -> str | None:
        """Return a text that is equal for equal values; None where it cannot be told.

        A set's order does not count, a dict's does. The project's own place on the disk is left
        out of texts and paths, so that a clone elsewhere has the same.
        """
        self._count += 1
        kind = type(value)
        if self._count > _PLAIN_AT_MOST or depth > _DEEP_AT_MOST:
            return None
        if kind is int and cast("int", value).bit_length() > _DIGITS_AT_MOST:
            return hex(cast("int", value))
        if kind in (*_READABLE, complex, bytes):
            return repr(value)
        if kind is str:
            return repr(cast("str", value).replace(self._root, "<project>/"))
        if kind in (list, tuple, set, frozenset):
            items = [self.text(item, depth + 1) for item in value]  # type: ignore[attr-defined]
            return _joined(
                kind.__name__, sorted(items, key=str) if "set" in kind.__name__ else items
            )
        if kind is dict:
            pairs = cast("dict[object, object]", value).items()
            return _joined("dict", [self.text(x, depth + 1) for pair in pairs for x in pair])
        return self._object(value, depth)

    def _object(self, value: object, depth: int) -> str | None:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _FAITHFUL:
            return f"{name}:{value!r}"
        if isinstance(value, PurePath):
            return f"{name}:{f'{value}/'.replace(self._root, '<project>/')}"
        if name == "re.Pattern":
            return f"{name}:{value.pattern!r}:{value.flags}"  # type: ignore[attr-defined]
        if name == "numpy.ndarray":
            return _array(value)
        if isinstance(value, FunctionType):
            return self._function(value, depth)
        if isinstance(value, type | BuiltinFunctionType):
            return self._named(value)
        if kind is functools.partial:
            held = [value.func, value.args, value.keywords]  # type: ignore[attr-defined]
            return _joined("partial", [self.text(item, depth + 1) for item in held])
        if kind is SimpleNamespace or self._is_plain_class(kind):
            held = [kind, vars(value)]
            return _joined("object", [self.text(item, depth + 1) for item in held])
        return None

    def _function(self, value: FunctionType, depth: int) -> str | None:
        """Tell a function by its code's own name: `functools.wraps` overwrites the others."""
        module, name = str(value.__globals__.get("__name__")), value.__code__.co_qualname
        if name.startswith("<lambda>"):
            return None
        try:
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:  # a cell that is still empty
            return None
        self.references.append((module, name.partition(".")[0]))
        return _joined(f"{module}.{name}", [self.text(cell, depth + 1) for cell in cells])

    def _named(self, value: object) -> str | None:
        module, name = (
            str(getattr(value, "__module__", None)),
            str(getattr(value, "__qualname__", "")),
        )
        found: object = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not value:
            return None
        self.references.append((module, name.partition(".")[0]))
        return f"{module}.{name}"

    def _is_plain_class(self, kind: type) -> bool:
        """Whether its objects are of our classes through and through, so that vars() is all."""
        classes = kind.__mro__[:-1]
        return classes != () and all(
            self._is_ours(c.__module__) and "__slots__" not in vars(c) for c in classes
        )


def readable(value: object, text: str) -> str:
    """Return "=value" of a number, a digest of any other text."""
    return f"={text}" if type(value) in _READABLE and len(text) < 80 else digest(text)


def digest(text: str) -> str:
    """Return 32 hex characters of the SHA-256 of a text, which may hold lone surrogates."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _joined(kind: str, texts: list[str | None]) -> str | None:
    told = [text for text in texts if text is not None]
    return f"{kind}({','.join(told)})" if len(told) == len(texts) else None


def _array(value: object) -> str | None:
    if value.dtype.hasobject:  # type: ignore[attr-defined]
        return None
    data = sha256(value.tobytes()).hexdigest()  # type: ignore[attr-defined]
    return f"array:{value.dtype.descr!r}:{value.shape!r}:{data}"  # type: ignore[attr-defined]
