"""A model's signature, compiled once into a typed decoder and into OpenAPI.

A request is one row (an object) or many (a list of objects). Decoding and checking are one pass, so
a wrong value is found where it stands and nothing reaches the model that it was not trained for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from charkha.definition import nearest
from charkha.errors import UserError
from charkha.serving.predictors.port import Row
from charkha.serving.problems import Problem

Column = Mapping[str, Any]
Place = Callable[[int, int | None], str]
"""Return the JSON pointer of (row, column), both from 0; without a column that of the row."""
_MOST = 1.7976931348623157e308
_KINDS: dict[str, Any] = {
    "double": Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)],  # neither NaN nor infinite
    "float": Annotated[float, msgspec.Meta(ge=-3.4028235e38, le=3.4028235e38)],
    "long": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "integer": Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)],
    "string": str,
    "boolean": bool,
    "datetime": str,
}
_OPENAPI: dict[str, dict[str, Any]] = {
    "double": {"type": "number", "format": "double"},
    "float": {
        "type": "number",
        "format": "float",
        "minimum": -3.4028235e38,
        "maximum": 3.4028235e38,
    },
    "long": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "integer": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
}
_NULL = {"type": "null"}
_MOMENTS = [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]
_PLACE = re.compile(
    r"(?P<what>.*?)"
    r"(?: - at `\$(?:\[(?P<row>\d+)\])?(?:\[(?P<index>\d+)\])?(?:\.(?P<field>.*))?`)?",
    re.DOTALL,
)
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_values = msgspec.structs.astuple
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`")


class RowSchema:
    """Decodes and checks rows for one model. Safe to share between threads.

    Raises:
        UserError: the signature has a type that no request can carry.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.names = tuple(str(column["name"]) for column in columns)
        named = self._struct(forbid_unknown_fields=True)
        self.kinds = tuple(_field(column)[0] for column in columns)  # as msgspec takes them
        self._either: Any = named | list[named]  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self._either)
        self._many = list[named]  # type: ignore[valid-type]
        self._placed = list[tuple[self.kinds]]  # type: ignore[name-defined]
        self._wholes = [c["name"] for c in columns if c["type"] in ("integer", "long")]
        self._settled = [
            (at, column)
            for at, column in enumerate(columns)
            if column["type"] in ("string", "datetime")
        ]

    def _struct(self, *, forbid_unknown_fields: bool) -> type[msgspec.Struct]:
        return msgspec.defstruct(
            "Row",
            [(f"c{i}", *_field(column)) for i, column in enumerate(self.columns)],
            kw_only=True,
            rename={f"c{i}": name for i, name in enumerate(self.names)},
            forbid_unknown_fields=forbid_unknown_fields,
            gc=False,
        )

    def lenient_decoder(self) -> msgspec.json.Decoder[list[msgspec.Struct]]:
        """Return a decoder of many rows that skips unknown fields; "3.5" may stand for 3.5."""
        kind = self._struct(forbid_unknown_fields=False)
        return msgspec.json.Decoder(list[kind], strict=False)  # type: ignore[valid-type]

    def decode(self, body: bytes) -> tuple[list[Row], bool]:
        """Return the rows in a JSON body, and whether it was one object and not a list.

        Raises:
            Problem: 400 for what is no JSON, 422 for rows that do not fit, with the place.
        """
        try:
            try:
                decoded = self._decoder.decode(body)
            except msgspec.ValidationError as e:
                if "Expected `int" not in str(e) or "got `float`" not in str(e):
                    raise
                decoded = self._decode_wholes(body)
        except msgspec.ValidationError as e:
            raise broken_json(body) or self._misfit(str(e), "") from e
        except _NO_JSON as e:
            raise malformed_json(e) from e
        single = not isinstance(decoded, list)
        rows = [_values(decoded)] if single else [_values(row) for row in decoded]
        return self._settle(rows, "", single=single), single

    def _decode_wholes(self, body: bytes) -> Any:
        """Decode a body where 3.0 stands for 3, as JSON has it and as pandas writes whole numbers.

        Raises:
            msgspec.ValidationError, Problem: as the decoder, and `parse_json`.
        """
        given: Any = parse_json(body)
        for row in given if isinstance(given, list) else [given]:
            for name in self._wholes if isinstance(row, dict) else ():
                value = row.get(name)
                if isinstance(value, float) and value.is_integer():
                    row[name] = int(value)
        return msgspec.convert(given, self._either)

    def from_records(self, records: object, at: str = "", *, parse: bool = False) -> list[Row]:
        """Return rows that were given as a list of objects.

        Args:
            records: what was decoded.
            at: the JSON pointer of the list, for the place of an error.
            parse: whether a text may stand for a number, a truth value.

        Raises:
            Problem: 422 for rows that do not fit, with the place.
        """
        try:
            rows = msgspec.convert(records, self._many, strict=not parse)
        except msgspec.ValidationError as e:
            raise self._misfit(str(e), at) from e
        return self._settle([_values(row) for row in rows], at)

    def from_values(self, rows: object, at: str = "", *, parse: bool = False) -> list[Row]:
        """Return rows that were given as a list of lists, in the order of the signature.

        Args:
            rows: what was decoded.
            at: the JSON pointer of the list, for the place of an error.
            parse: whether a text may stand for a number, a truth value.

        Raises:
            Problem: 422 for rows that do not fit, with the place.
        """
        try:
            placed: list[Row] = msgspec.convert(rows, self._placed, strict=not parse)
        except msgspec.ValidationError as e:
            raise self._misfit(str(e), at) from e
        return self._settle(placed, at)

    def settle(
        self, rows: list[Row], place: Place | None = None, *, single: bool = False
    ) -> list[Row]:
        """Check what a decoder cannot: dates; and that no text is empty, which means no value.

        Args:
            rows: decoded, in the order of the signature.
            place: tells where a column of the signature stands; None: in a body as `decode` has it.
            single: the body is that of one row.

        Raises:
            Problem: 422 with the place.
        """
        if not rows:
            raise Problem(422, "invalid-rows", "There are no rows", "send at least one row")
        if not self._settled:
            return rows
        settled = []
        for number, row in enumerate(rows):
            for at, column in self._settled:
                value = row[at]
                if value is None:
                    continue
                dated = column["type"] == "datetime"
                if value == "" or (dated and value == "NaT"):  # as pandas writes a missing moment
                    if _required(column):
                        said = "Expected a text, got an empty one"
                        raise self._wrong(said, number, at, place, single)
                    row = (*row[:at], None, *row[at + 1 :])
                elif dated and not _is_moment(value):
                    said = "Expected a date in ISO 8601, such as 2008-06-01"
                    raise self._wrong(said, number, at, place, single)
            settled.append(row)
        return settled

    def _settle(self, rows: list[Row], at: str, *, single: bool = False) -> list[Row]:
        if not at:
            return self.settle(rows, single=single)
        return self.settle(rows, lambda row, column: at + pointer(row, self._name(column)))

    def _name(self, column: int | None) -> str | None:
        return None if column is None else self.names[column]

    def _wrong(
        self, what: str, row: int, column: int, place: Place | None, single: bool
    ) -> Problem:
        name = self.names[column]
        if place is not None:
            return misfit(what, place(row, column), row, name)
        shown = None if single else row
        return misfit(what, pointer(shown, name), shown, name)

    def _misfit(self, said: str, at: str) -> Problem:
        what, row, index, field = fault_in(said)
        if index is not None and index < len(self.names):
            field = self.names[index]
        if what.startswith("Object contains unknown") and (near := nearest(str(field), self.names)):
            what += f", did you mean '{near}'?"
        return misfit(what, at + pointer(row, field), row, field)

    def openapi(self) -> dict[str, object]:
        """Return the JSON schema of one row."""
        properties = {str(column["name"]): _property(column) for column in self.columns}
        required = [str(column["name"]) for column in self.columns if _required(column)]
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
    required = _required(column)
    if column["type"] == "datetime":
        said = "a date or a moment in ISO 8601"
        return {"description": said, "anyOf": _MOMENTS if required else [*_MOMENTS, _NULL]}
    known = dict(_OPENAPI[column["type"]])
    if required and known["type"] == "string":
        known["minLength"] = 1  # an empty text is no value
    if not required:
        known["type"] = [known["type"], "null"]
    if column.get("categories"):
        known["examples"] = list(column["categories"])
    return known


def _is_moment(value: object) -> bool:
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def fault_in(said: str) -> tuple[str, int | None, int | None, str | None]:
    """Return what is wrong, row, index and field out of what msgspec says of rows in a list."""
    match = _PLACE.fullmatch(said)
    if match is None:
        return said, None, None, None
    what, row, index, field = match.group("what", "row", "index", "field")
    if named := _FIELD.fullmatch(what):
        field = named[1]
    return what.replace("`", "'"), _number(row), _number(index), field


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def misfit(what: str, place: str, row: int | None, field: str | None) -> Problem:
    """Return what is said of rows that do not fit.

    Args:
        what: is wrong.
        place: JSON pointer into the body.
        row: in which row, from 0.
        field: in which column.
    """
    where = f"row {row + 1}: " if row is not None else ""
    about = f"{field}: " if field is not None and field not in what else ""
    return Problem(
        422,
        "invalid-rows",
        "The rows do not fit the model",
        f"{where}{about}{what}",
        [{"detail": what, "pointer": f"#{place}"}],
    )


def pointer(*parts: object) -> str:
    """Return a JSON pointer (RFC 6901) of the parts that are not None."""
    return "".join(
        "/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts if part is not None
    )


def parse_json(body: bytes) -> object:
    """Return what a body says.

    Raises:
        Problem: 400 for what is no JSON, 422 where it has a number that no type holds.
    """
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as e:
        raise misfit(str(e), "", None, None) from e
    except _NO_JSON as e:
        raise malformed_json(e) from e


def broken_json(body: bytes) -> Problem | None:
    """Return what makes a body no JSON: one that is cut off is none, whatever it says before."""
    try:
        parse_json(body)
    except Problem as e:
        return e if e.status == 400 else None
    return None


def malformed_json(error: Exception) -> Problem:
    """Return what is said of a body that is no JSON."""
    said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Problem(400, "malformed-json", "The body is no JSON", said)


def example_rows(text: str) -> list[dict[str, object]]:
    """Return the rows of a package's input example."""
    rows = json.loads(text)
    return rows if isinstance(rows, list) else [rows]
