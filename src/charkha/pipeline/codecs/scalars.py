"""Small values of datetime, decimal, uuid, numpy and pandas in JSON, for the json codec.

No library is imported until a value of it has to be made: `form` finds it by the value's type,
`revive` by its tag.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from charkha.errors import UserError


def form(value: Any) -> dict[str, object]:
    """Return `value` as a JSON object with one key, its tag.

    Raises:
        UserError: a time whose zone has no name that another machine knows.
    """
    kind = type(value)
    library, name = kind.__module__.partition(".")[0], kind.__name__
    if library == "numpy":
        return {"$numpy": [value.dtype.str, _numpy_content(value)]}
    if library == "pandas":
        return {f"$pandas.{name}": _PANDAS[name](value)}
    if name in ("datetime", "time"):
        return {f"${name}": _zoned(value)}
    if name == "timedelta":
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    return {f"${name.lower()}": str(value)}  # date, Decimal, UUID


def revive(tag: str, content: Any) -> object:
    """Return the value that `form` wrote.

    Raises:
        ValueError: nobody writes this tag. TypeError, LookupError and the like for a wrong content.
    """
    if tag not in _REVIVERS:
        raise ValueError(f"nobody here writes {tag}")
    return _REVIVERS[tag](content)


def _numpy_content(value: Any) -> object:
    """Return a number as Python's, exactly: every float of at most 64 bits is one of Python's."""
    letter = value.dtype.kind
    if letter in "biuU":
        return value.item()
    if letter in "fc":
        return (
            [repr(float(value.real)), repr(float(value.imag))]
            if letter == "c"
            else repr(float(value))
        )
    return value.tobytes().hex()  # S, M, m


def _numpy_value(content: Any) -> object:
    numpy = import_module("numpy")
    dtype = numpy.dtype(content[0])
    if dtype.kind in "biufU":
        return dtype.type(content[1])
    if dtype.kind == "c":
        return dtype.type(complex(float(content[1][0]), float(content[1][1])))
    if dtype.kind in "SMm":
        return numpy.frombuffer(bytes.fromhex(content[1]), dtype)[0]
    raise ValueError(f"no scalar has the dtype {dtype}")


def _zoned(value: Any) -> object:
    """Return a datetime or time in ISO 8601; as [local, zone, fold] where that would lose something."""
    zone = value.tzinfo
    if zone is None or (_is(zone, "datetime.timezone") and len(zone.__getinitargs__()) == 1):
        return [value.isoformat(), None, 1] if value.fold else value.isoformat()
    return [value.replace(tzinfo=None).isoformat(), zone_name(zone), value.fold]


def zone_name(zone: Any) -> str:
    """Return the IANA name of a ZoneInfo.

    Raises:
        UserError: it has none, or is of another library.
    """
    if _is(zone, "zoneinfo.ZoneInfo") and zone.key:
        return str(zone.key)
    raise UserError(
        f"a time in the zone {zone!r} cannot be kept",
        fix="use zoneinfo.ZoneInfo(name) or datetime.UTC for its zone",
    )


def _unzoned(kind: str) -> Callable[[Any], object]:
    def make(content: Any) -> object:
        type_ = getattr(import_module("datetime"), kind)
        if isinstance(content, str):
            return type_.fromisoformat(content)
        local, zone, fold = content
        value = type_.fromisoformat(local).replace(fold=fold)
        if zone is None:
            return value
        return value.replace(tzinfo=import_module("zoneinfo").ZoneInfo(zone))

    return make


def _timestamp(value: Any) -> object:
    """Return [units since 1970 in UTC, the unit, the zone's name or its seconds east of UTC]."""
    zone: object = value.tzinfo
    if _is(zone, "datetime.timezone"):
        zone = int(value.utcoffset().total_seconds())
    elif zone is not None:
        zone = getattr(zone, "zone", None) or zone_name(zone)  # a zone of pytz has .zone
    return [value._value, value.unit, zone]


def _timestamp_value(content: Any) -> object:
    pandas = import_module("pandas")
    number, unit, zone = content
    value = pandas.Timestamp(import_module("numpy").datetime64(number, unit))
    if isinstance(zone, int):
        datetime = import_module("datetime")
        zone = datetime.timezone(datetime.timedelta(seconds=zone))
    return value if zone is None else value.tz_localize("UTC").tz_convert(zone)


def _timedelta_value(content: Any) -> object:
    number, unit = content
    return import_module("pandas").Timedelta(import_module("numpy").timedelta64(number, unit))


def _is(value: object, name: str) -> bool:
    return f"{type(value).__module__}.{type(value).__qualname__}" == name


_PANDAS: dict[str, Callable[[Any], object]] = {
    "Timestamp": _timestamp,
    "Timedelta": lambda value: [value._value, value.unit],
    "NaTType": lambda value: None,
    "NAType": lambda value: None,
}
_REVIVERS: dict[str, Callable[[Any], object]] = {
    "$numpy": _numpy_value,
    "$pandas.Timestamp": _timestamp_value,
    "$pandas.Timedelta": _timedelta_value,
    "$pandas.NaTType": lambda content: import_module("pandas").NaT,
    "$pandas.NAType": lambda content: import_module("pandas").NA,
    "$datetime": _unzoned("datetime"),
    "$time": _unzoned("time"),
    "$date": lambda content: import_module("datetime").date.fromisoformat(content),
    "$timedelta": lambda content: import_module("datetime").timedelta(*content),
    "$decimal": lambda content: import_module("decimal").Decimal(content),
    "$uuid": lambda content: import_module("uuid").UUID(content),
}
