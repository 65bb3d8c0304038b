"""`/invocations`: the protocol of MLflow's scoring server, without MLflow and without pandas.

Read after `mlflow.pyfunc.scoring_server` of MLflow 3.17. Four differences are meant: a value that
MLflow would alter (3.7 for an integer, null for a required number) is refused; a list of lists goes
to the columns in order where MLflow refuses it for a signature with names; a refusal says where the
fault is; and the answer has the ids of the predictions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from charkha.serving.dialects.choice import needing
from charkha.serving.dialects.csv import PANDAS_MISSING, CsvReader
from charkha.serving.dialects.loose_json import NO_JSON, check_count, decode
from charkha.serving.dialects.placed import Orders
from charkha.serving.dialects.port import Headers, Reading, Said, Sent
from charkha.serving.dialects.refusals import Refusal
from charkha.serving.dialects.tables import too_many
from charkha.serving.problems import Problem
from charkha.serving.schema import fault_in, malformed_json, misfit, pointer

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel
    from charkha.serving.predictors.port import Row

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
TYPES = ("application/json", "text/csv", "application/vnd.apache.parquet")
_JSON: Sent = [(b"content-type", b"application/json")]
_ABSENT = Raw(b"")
_LIST_OF = re.compile(rb"\[\s*(.)", re.DOTALL)


class _Split(Struct, forbid_unknown_fields=True, gc=False):
    data: Raw
    columns: list[str] | None = None
    index: Raw = _ABSENT


class _Body(Struct, gc=False):
    """All else in a body is ignored, `params` as well: no model of ours declares any."""

    dataframe_split: _Split | None = None
    dataframe_records: Raw = _ABSENT
    instances: Raw = _ABSENT
    inputs: Raw = _ABSENT


class InvocationsDialect:
    """The Dialect of `/invocations` for one version."""

    def __init__(self, model: ServedModel, variant: str, most_rows: int) -> None:
        schema = model.schema
        self._schema, self._orders, self._most_rows = schema, Orders(schema, most_rows), most_rows
        self._body = msgspec.json.Decoder(_Body).decode
        self._columns = msgspec.json.Decoder(dict[str, Any]).decode
        self._scalars = msgspec.json.Decoder(list[Any]).decode
        self._records = schema.lenient_decoder().decode
        self._encode = msgspec.json.Encoder().encode
        self._csv = CsvReader(schema, most_rows, missing=PANDAS_MISSING)
        self._tables: Callable[..., list[Row]] | None = None

    def read(self, body: bytes, headers: Headers) -> Reading:
        try:
            kind = headers.get(b"content-type", b"application/json")
            if kind == b"application/json" or (kind := _kind(kind)) == b"application/json":
                return Reading(self._read_json(body))
            if kind == b"text/csv":
                return Reading(self._csv.read(body))
            return Reading(self._read_parquet(body))
        except Problem as e:
            raise Refusal.of(e, "/invocations") from e

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        return b'{"predictions":%b,"ids":%b}' % (
            self._encode(said.answers.values),
            self._encode(said.ids),
        ), _JSON

    def _read_parquet(self, body: bytes) -> list[Row]:
        if self._tables is None:
            with needing("tables"):
                module = import_module("charkha.serving.dialects.pyarrow")
            self._tables = module.read_parquet
        return self._tables(body, self._schema, self._most_rows)

    def _read_json(self, body: bytes) -> list[Row]:
        try:
            return self._rows(decode(self._body, body))
        except NO_JSON as e:
            raise malformed_json(e) from e

    def _rows(self, said: _Body) -> list[Row]:
        split = said.dataframe_split
        others = [name for name in FORMATS[1:] if len(memoryview(getattr(said, name)))]
        if len(others) + (split is not None) != 1:
            raise misfit(f"Expected exactly one of {', '.join(FORMATS)}", "", None, None)
        if split is not None:
            placed = self._orders.own
            if split.columns is not None:
                placed = self._orders.of(tuple(split.columns))
            check_count(bytes(split.data), self._most_rows, b"[")
            return placed.decode(split.data, partial(_in_list, "/dataframe_split/data"))
        name = others[0]
        return self._list_or_columns(name, getattr(said, name))

    def _list_or_columns(self, name: str, given: Raw) -> list[Row]:
        raw = bytes(given)
        if raw.startswith(b"{") and name != "dataframe_records":
            return self._from_columns(name, self._columns(raw))
        first = _LIST_OF.match(raw)
        if first is None:
            raise misfit("Expected a list", f"/{name}", None, None)
        if first[1] == b"{" or name == "dataframe_records":
            return self._from_records(name, raw)
        place = partial(_in_list, f"/{name}")
        if first[1] == b"[":
            check_count(raw, self._most_rows, b"[")
            return self._orders.own.decode(given, place)
        if len(self._schema.names) > 1 and first[1] != b"]":
            raise misfit("Expected a list of objects or of lists", f"/{name}/0", None, None)
        return self._orders.own.convert(
            [(value,) for value in self._scalars(raw)], lambda row, at: pointer(name, row)
        )

    def _from_records(self, name: str, raw: bytes) -> list[Row]:
        check_count(raw, self._most_rows)
        try:
            rows = self._records(raw)
        except msgspec.ValidationError as e:
            what, row, _, field = fault_in(str(e))
            raise misfit(what, pointer(name, row, field), row, field) from e
        return self._schema.settle(
            [msgspec.structs.astuple(row) for row in rows],
            lambda row, at: pointer(name, row, None if at is None else self._schema.names[at]),
        )

    def _from_columns(self, name: str, columns: dict[str, Any]) -> list[Row]:
        """Take {"column": [values]}; a single value stands for as many as the lists have."""
        placed = self._orders.of(tuple(columns))
        lengths = {len(values) for values in columns.values() if isinstance(values, list)}
        if len(lengths) > 1:
            raise misfit("The columns are not equally long", f"/{name}", None, None)
        count = lengths.pop() if lengths else 1
        if count > self._most_rows:
            raise too_many(self._most_rows)
        listed = [v if isinstance(v, list) else [v] * count for v in columns.values()]

        def place(row: int, at: int | None) -> str:
            if at is None:
                return pointer(name)
            column = placed.names[at]
            return pointer(name, column, row if isinstance(columns[column], list) else None)

        return placed.convert(list(zip(*listed, strict=True)), place)


def _in_list(list_at: str, row: int, at: int | None) -> str:
    return list_at + pointer(row, at)


def _kind(content_type: bytes) -> bytes:
    """Return the media type, checked as MLflow checks it.

    Raises:
        Problem: 415.
    """
    kind, *parameters = [part.strip() for part in content_type.lower().split(b";")]
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name != b"charset" or value not in (b"utf-8", b'"utf-8"'):
            raise _unsupported("only charset=utf-8 may stand behind the content type")
    if kind.decode("latin-1") not in TYPES:
        raise _unsupported(f"send {', '.join(TYPES)}")
    return kind


def _unsupported(detail: str) -> Problem:
    return Problem(415, "unsupported-type", "No such content type is read here", detail)


if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect

    def _fits(model: ServedModel) -> Dialect:
        return InvocationsDialect(model, "champion", 1)
