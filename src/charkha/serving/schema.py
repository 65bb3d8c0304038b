"""A model's signature, compiled once into a typed decoder and into OpenAPI.

A request is one row (an object) or many (a list of objects). Decoding and checking are one pass, so
a wrong value is found where it stands and nothing reaches the model that it was not trained for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec

from charkha.errors import UserError
from charkha.serving.problems import Problem

Column = Mapping[str, Any]
_KINDS: dict[str, Any] = {
    "double": float,
    "float": Annotated[float, msgspec.Meta(ge=-3.4028235e38, le=3.4028235e38)],
    "long": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "integer": Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)],
    "string": str,
    "boolean": bool,
    "datetime": str,
}
_OPENAPI: dict[str, dict[str, object]] = {
    "double": {"type": "number", "format": "double"},
    "float": {"type": "number", "format": "float"},
    "long": {"type": "integer", "format": "int64"},
    "integer": {"type": "integer", "format": "int32"},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "string", "description": "a date or a moment in ISO 8601"},
}
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?:\[(?P<row>\d+)\])?(?:\.(?P<field>.*))?`)?")
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`")


class Request(NamedTuple):
    """What a body held."""

    columns: dict[str, list[object]]
    rows: int
    single: bool  # an object and not a list


class RowSchema:
    """Decodes bodies of requests for one model. Safe to share between threads.

    Raises:
        UserError: the signature has a type that no request can carry.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = list(columns)
        fields = [(f"c{i}", *_field(column)) for i, column in enumerate(self._columns)]
        names = {f"c{i}": str(column["name"]) for i, column in enumerate(self._columns)}
        row = msgspec.defstruct(
            "Row", fields, kw_only=True, rename=names, forbid_unknown_fields=True, gc=False
        )
        self._names = list(names.items())
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row | list[row])  # type: ignore[valid-type]

    def decode(self, body: bytes) -> Request:
        """Return the columns of the rows in `body`.

        Raises:
            Problem: 400 for what is no JSON, 422 for rows that do not fit, with the place.
        """
        try:
            decoded = self._decoder.decode(body)
        except msgspec.ValidationError as e:
            raise _misfit(str(e)) from e
        except msgspec.DecodeError as e:
            raise Problem(400, "malformed-json", "The body is no JSON", str(e)) from e
        single = not isinstance(decoded, list)
        rows = [decoded] if single else decoded
        if not rows:
            raise Problem(422, "invalid-rows", "There are no rows", "send at least one row")
        columns = {name: [getattr(row, at) for row in rows] for at, name in self._names}
        for column in self._columns:
            _settle(column, columns[str(column["name"])], single)
        return Request(columns, len(rows), single)

    def openapi(self) -> dict[str, object]:
        """Return the JSON schema of one row."""
        properties = {str(column["name"]): _property(column) for column in self._columns}
        required = [str(column["name"]) for column in self._columns if _required(column)]
        return {
            "type": "object",
            "title": "Row",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


def _field(column: Column) -> tuple[Any, ...]:
    if column["type"] not in _KINDS:
        raise UserError(
            f"column {column['name']!r} is a {column['type']}, which no request can carry",
            fix=f"make it one of: {', '.join(_KINDS)}",
        )
    kind = _KINDS[column["type"]]
    return (kind,) if _required(column) else (kind | None, None)


def _required(column: Column) -> bool:
    return bool(column.get("required", True))


def _property(column: Column) -> dict[str, object]:
    known = dict(_OPENAPI[column["type"]])
    if not _required(column):
        known["type"] = [known["type"], "null"]
    if column.get("categories"):
        known["examples"] = list(column["categories"])
    return known


def _settle(column: Column, values: list[object], single: bool) -> None:
    """Check what the decoder cannot: dates; and that no text is empty, which means no value."""
    if column["type"] == "string":
        for row, value in enumerate(values):
            if value == "":
                if _required(column):
                    raise _wrong(column, row, single, "Expected a text, got an empty one")
                values[row] = None
    elif column["type"] == "datetime":
        for row, value in enumerate(values):
            if value is not None:
                try:
                    datetime.fromisoformat(str(value))
                except ValueError as e:
                    said = f"Expected a date in ISO 8601, such as 2008-06-01, got {value!r}"
                    raise _wrong(column, row, single, said) from e


def _wrong(column: Column, row: int, single: bool, what: str) -> Problem:
    return _invalid(what, None if single else str(row), str(column["name"]))


def _misfit(said: str) -> Problem:
    match = _PLACE.fullmatch(said)
    if match is None:
        return _invalid(said, None, None)
    field = match["field"]
    if named := _FIELD.fullmatch(match["what"]):
        field = named[1]
    return _invalid(match["what"].replace("`", "'"), match["row"], field)


def _invalid(what: str, row: str | None, field: str | None) -> Problem:
    pointer = "".join(f"/{_escaped(part)}" for part in (row, field) if part is not None)
    place = f"row {int(row) + 1}: " if row is not None else ""
    about = f"{field}: " if field is not None and field not in what else ""
    return Problem(
        422,
        "invalid-rows",
        "The rows do not fit the model",
        f"{place}{about}{what}",
        [{"detail": what, "pointer": f"#{pointer}"}],
    )


def _escaped(part: str) -> str:
    """Escape as RFC 6901 wants it for a JSON pointer."""
    return part.replace("~", "~0").replace("/", "~1")


def example_rows(text: str) -> list[dict[str, object]]:
    """Return the rows of a package's input example."""
    rows = json.loads(text)
    return rows if isinstance(rows, list) else [rows]
