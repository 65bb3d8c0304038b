"""CSV in requests: a header with the columns' names, one row a line, typed by the signature."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from charkha.serving.dialects.named import NamedDialect
from charkha.serving.dialects.placed import Converter, check_names
from charkha.serving.dialects.port import Headers, Reading, Said, Sent
from charkha.serving.dialects.tables import answer_columns, kind_of, malformed, too_many, wants_json
from charkha.serving.problems import Problem
from charkha.serving.schema import fault_in, misfit, pointer

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel
    from charkha.serving.predictors.port import Row
    from charkha.serving.schema import RowSchema

TYPE = "text/csv"
MISSING = frozenset(("", "nan", "na", "null", "none"))  # for numbers, as `charkha predict` has it
PANDAS_MISSING = frozenset(  # what pandas.read_csv takes for no value, in texts as well
    ("", "nan", "null", "NaN", "NULL", "None", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "-nan")
    + ("-NaN", "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)
_ALSO_MISSING = frozenset(("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", "-nan"))
_NUMBER = re.compile(
    r"(?:\+|(-))?(?=\.?\d)0*(\d*)(?:\.(\d*))?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII
)
_HEADERS: Sent = [(b"content-type", b"text/csv; charset=utf-8; header=present")]


class CsvDialect:
    """The Dialect of CSV on `/predict` for one version, under the name of one variant."""

    def __init__(self, model: ServedModel, variant: str, most_rows: int) -> None:
        self._named = NamedDialect(model, variant)
        self._kind = kind_of(model.described["classes"])
        self._classes = model.classes
        self._read = CsvReader(model.schema, most_rows).read

    def read(self, body: bytes, headers: Headers) -> Reading:
        return Reading(self._read(body), wants_json(headers.get(b"accept"), TYPE))

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        if reading.form:
            return self._named.write(Reading(reading.rows, form=False), said)
        columns = answer_columns(said, self._classes, self._kind)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([name for name, _, _ in columns])
        writer.writerows(zip(*(_written(values, kind) for _, values, kind in columns), strict=True))
        return text.getvalue().encode(), _HEADERS


class CsvReader:
    """Reads CSV with a header into rows; columns that the model does not take are left out.

    Args:
        schema: of the model.
        most_rows: more are refused.
        missing: what means no value in a column of texts or dates.
    """

    def __init__(
        self, schema: RowSchema, most_rows: int, *, missing: Collection[str] = ("",)
    ) -> None:
        self._schema, self._most_rows, self._missing = schema, most_rows, missing
        self._converters = [
            None if column["type"] in ("string", "datetime") else Converter(list[kind])  # type: ignore[valid-type]
            for column, kind in zip(schema.columns, schema.kinds, strict=True)
        ]

    def read(self, body: bytes) -> list[Row]:
        """Return the rows of a body in UTF-8.

        Raises:
            Problem: 400 for what is no CSV, 413 for too many rows, 422 for rows that do not fit.
        """
        names, lines = _lines(body, self._most_rows)
        check_names(self._schema, names)
        given = dict(zip(names, zip(*lines, strict=True), strict=True))
        columns: list[Sequence[object]] = []
        for name, convert in zip(self._schema.names, self._converters, strict=True):
            values = given.get(name)
            if values is None:
                columns.append([None] * len(lines))
            elif convert is not None:
                columns.append(_values(values, convert, name))
            else:
                columns.append(["" if text in self._missing else text for text in values])
        rows: list[Row] = list(zip(*columns, strict=True))
        return self._schema.settle(rows, self._place)

    def _place(self, row: int, at: int | None) -> str:
        return pointer(row, None if at is None else self._schema.names[at])


def _lines(body: bytes, most_rows: int) -> tuple[list[str], list[list[str]]]:
    """Return the header, and the other lines that are not blank; all are equally long."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise malformed("CSV", e) from e
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        written = filter(None, reader)  # without blank lines
        names = next(written, None)
        lines = list(islice(written, most_rows + 1))
    except csv.Error as e:
        raise malformed("CSV", f"line {reader.line_num}: {e}") from e
    if names is None:
        raise malformed("CSV", "it is empty; send a header and at least one row")
    if len(lines) > most_rows:
        raise too_many(most_rows)
    if not lines:
        raise Problem(422, "invalid-rows", "There are no rows", "send at least one row")
    width = len(names)
    if {*map(len, lines)} != {width}:
        row = next(row for row, line in enumerate(lines) if len(line) != width)
        said = f"{len(lines[row])} values where the header names {width} columns"
        raise misfit(said, pointer(row), row, None)
    return names, lines


def _values(values: Sequence[str], convert: Converter, name: str) -> Sequence[object]:
    found: list[object]
    try:
        try:
            found = convert(values)  # as computers write numbers
        except msgspec.ValidationError:
            found = convert([_plain(text) for text in values])  # as people do
        return found
    except msgspec.ValidationError as e:
        what, row, _, _ = fault_in(str(e))
        what = what.replace("got 'str'", "got a text").replace("got 'null'", "got no value")
        raise misfit(what, pointer(row, name), row, name) from e


def _plain(text: str) -> str | None:
    """Return a number or truth value as JSON writes it, None where there is no value."""
    text = text.strip()
    if text.lower() in MISSING or text in PANDAS_MISSING or text.lower() in _ALSO_MISSING:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    sign, whole, part, exponent = number.groups("")
    return f"{sign}{whole or 0}{'.' + part if part else ''}{exponent}"


def _written(values: Sequence[object], kind: type) -> Sequence[object]:
    """Return what stands in the cells: shortest numbers that read back the same, true, false."""
    if kind is bool:
        return ["true" if value else "false" for value in values]
    return [repr(value) for value in values] if kind is float else values


if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect

    def _fits(model: ServedModel) -> Dialect:
        return CsvDialect(model, "champion", 1)
