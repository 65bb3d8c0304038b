"""Plain Python values as strict JSON, with a tag where JSON has no word for a type.

A tag is an object with one key that starts with "$": `{"$tuple": [1, 2]}`. A dict that looks like a
tag, or has keys that are not strings, is written as pairs: `{"$dict": [[1, "a"]]}`. The order of a
dict is part of its value (a step can see it), so it is kept and two orders are two values; a set has
none, so its elements are sorted. Numbers keep type and value: NaN, the infinities and integers of any
length have tags, every other float is written with the digits that give it back. Types are compared
exactly, for a subclass (an Enum, a named tuple, an OrderedDict) would come back as something else.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from charkha.errors import UserError

_DEPTH = 200  # levels; json's own reader gives up some hundreds later
_LONGEST = 1 << 4096  # integers from here on are written in hex: decimal takes quadratic time
_SHOWN = 8  # differences
_ATOMS = frozenset({str, int, bool, type(None), float, complex, bytes})
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
# Types that cost an import, told by name and written by charkha.pipeline.codecs.scalars.
_SCALARS = frozenset(
    [f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta")]
    + [f"numpy.{name}" for name in ("bool", "bool_", "float16", "float32", "float64")]
    + [f"numpy.{name}int{bits}" for name in ("", "u") for bits in (8, 16, 32, 64)]
    + [f"numpy.{name}" for name in ("longlong", "ulonglong", "intc", "uintc", "str_", "bytes_")]
    + [f"numpy.{name}" for name in ("complex64", "complex128", "datetime64", "timedelta64")]
    + [f"pandas._libs.tslibs.{name}" for name in ("timestamps.Timestamp", "nattype.NaTType")]
    + ["pandas._libs.tslibs.timedeltas.Timedelta", "pandas._libs.missing.NAType"]
    + ["decimal.Decimal", "uuid.UUID"]
)
_HINTS = {  # by base class: what to return instead of a value of a class of one's own
    "enum.Enum": "return its .value",
    "pathlib.PurePath": "return File(path) or Dir(path) to keep the content, str(path) for the name",
    "builtins.dict": "return dict(value)",
    "builtins.list": "return list(value)",
    "builtins.tuple": "return tuple(value), or value._asdict() to keep the names",
    "builtins.str": "return str(value)",
    "builtins.int": "return int(value)",
    "builtins.float": "return float(value)",
}


class JsonCodec:
    """A Codec for what JSON knows, and for Python's and numpy's small values."""

    name = "json"

    def encode(self, value: object) -> bytes:
        try:
            return _ENCODER.encode(_form(value, _DEPTH)).encode("utf-8", "surrogatepass")
        except RecursionError as e:
            raise UserError(
                f"a {type(value).__name__} is nested more than {_DEPTH} levels deep, or contains itself",
                fix="return a flatter value",
            ) from e

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        return _read(data, _DECODER)

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        found: list[str] = []
        _compare("", _read(old, _PLAIN), _read(new, _PLAIN), found)
        more = len(found) - _SHOWN
        return found if more <= 0 else [*found[:_SHOWN], f"and {more} more"]

    @staticmethod
    def is_json(value: object) -> bool:
        """Say whether `encode` takes `value` (an extra of this codec)."""
        return is_json(value)


def is_json(value: object) -> bool:
    """Say whether this codec takes `value`, which includes everything inside it.

    One look at the type for a value that is no container. Never raises: what contains itself is
    taken, and refused by `encode`.
    """
    if type(value) in _ATOMS:
        return True
    seen: set[int] = set()
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind in _ATOMS:
            continue
        if kind not in _CONTAINERS:
            if _name(kind) not in _SCALARS:
                return False
        elif id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one)  # of a dict: its keys
            if kind is dict:
                waiting.extend(one.values())
    return True


def unsupported(value: object) -> UserError:
    """Return the error for a value of a type that no shipped codec keeps, with the way out."""
    kind = type(value)
    hints = [_HINTS[_name(base)] for base in kind.__mro__ if _name(base) in _HINTS]
    if hasattr(kind, "__dataclass_fields__"):
        hints = ["return dataclasses.asdict(value)"]
    known = "return a table, array, scikit-learn model, text, number, dict, File or Dir"
    return UserError(
        f"no codec keeps a {_name(kind)}",
        fix=f"{hints[0] if hints else known}; or register one: "
        f"charkha.pipeline.artifacts.register_codec({kind.__name__}, YourCodec())",
    )


def _form(value: Any, depth: int) -> object:
    """Return `value` as what json writes faithfully; `depth` levels may follow."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        return value if value - value == 0.0 else {"$float": repr(value)}
    if kind is int:
        return value if -_LONGEST < value < _LONGEST else {"$int": hex(value)}
    if depth == 0:
        raise RecursionError
    if kind in _WRITERS:
        return _WRITERS[kind](value, depth - 1)
    if _name(kind) in _SCALARS:
        return import_module("charkha.pipeline.codecs.scalars").form(value)
    raise unsupported(value)


def _list_form(value: list[object], depth: int) -> object:
    return [_form(item, depth) for item in value]


def _tagged_form(value: tuple[object, ...], depth: int) -> object:
    return {f"${type(value).__name__}": [_form(item, depth) for item in value]}


def _set_form(value: set[object], depth: int) -> object:
    return {
        f"${type(value).__name__}": sorted(
            (_form(item, depth) for item in value), key=_ENCODER.encode
        )
    }


def _dict_form(value: dict[Any, object], depth: int) -> object:
    strings = all(type(key) is str for key in value)
    if strings and not (len(value) == 1 and next(iter(value)).startswith("$")):
        return {key: _form(item, depth) for key, item in value.items()}
    return {"$dict": [[_form(key, depth), _form(item, depth)] for key, item in value.items()]}


_WRITERS: dict[type, Callable[[Any, int], object]] = {
    dict: _dict_form,
    list: _list_form,
    tuple: _tagged_form,
    set: _set_form,
    frozenset: _set_form,
    bytes: lambda value, _: {"$bytes": b2a_base64(value, newline=False).decode("ascii")},
    complex: lambda value, _: {"$complex": [repr(value.real), repr(value.imag)]},
}


def _revive(found: dict[str, object]) -> object:
    """Return what a JSON object stands for; called by the reader, innermost first."""
    if len(found) != 1:
        return found
    ((tag, content),) = found.items()
    if not tag.startswith("$"):
        return found
    try:
        if tag in _REVIVERS:
            return _REVIVERS[tag](content)
        return import_module("charkha.pipeline.codecs.scalars").revive(tag, content)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as e:
        raise ValueError(f"{tag} with a content that it cannot have") from e


_REVIVERS: dict[str, Callable[[Any], object]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
    "$float": float,
    "$int": lambda text: int(text, 16),
    "$bytes": a2b_base64,
    "$complex": lambda parts: complex(float(parts[0]), float(parts[1])),
}


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)
_DECODER = json.JSONDecoder(object_hook=_revive, parse_constant=_refuse)
_PLAIN = json.JSONDecoder(parse_constant=_refuse)  # tags stay as they are


def _read(data: bytes | memoryview, decoder: json.JSONDecoder) -> object:
    # A lone surrogate is a legal str, which only `surrogatepass` writes and reads.
    try:
        found: object = decoder.decode(str(data, "utf-8", "surrogatepass"))
    except RecursionError as e:
        raise ValueError("JSON nested deeper than any that was written here") from e
    return found


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _compare(where: str, old: Any, new: Any, found: list[str]) -> None:
    """Append to `found` what differs between two JSON values at the path `where`."""
    if isinstance(old, dict) and isinstance(new, dict):
        if len(old) == 1 and old.keys() == new.keys() and next(iter(old)).startswith("$"):
            (before,), (after,) = old.values(), new.values()
            _compare(where, before, after, found)
        else:
            _compare_keys(where, old, new, found)
    elif isinstance(old, list) and isinstance(new, list):
        for i, (before, after) in enumerate(zip(old, new, strict=False)):
            _compare(f"{where}[{i}]", before, after, found)
        if longer := len(new) - len(old):
            found.append(_at(where, f"{abs(longer)} elements {'more' if longer > 0 else 'fewer'}"))
    elif type(old) is not type(new) or old != new:
        found.append(_at(where, f"{_short(old)} → {_short(new)}"))


def _compare_keys(where: str, old: dict[str, Any], new: dict[str, Any], found: list[str]) -> None:
    for key in [*old, *(key for key in new if key not in old)]:
        path = f"{where}.{key}" if where else key
        if key not in new:
            found.append(f"{path} removed")
        elif key not in old:
            found.append(f"{path} added")
        else:
            _compare(path, old[key], new[key], found)
    if old.keys() == new.keys() and list(old) != list(new):
        found.append(_at(where, "keys in another order"))


def _at(where: str, what: str) -> str:
    return f"{where}: {what}" if where else what


def _short(value: object) -> str:
    text = _ENCODER.encode(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _: Codec = JsonCodec()
