"""Rows whose columns come in an order of the caller's, checked and put into the signature's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from charkha.serving.dialects.tables import too_many
from charkha.serving.schema import Place, fault_in, misfit

if TYPE_CHECKING:
    from charkha.serving.predictors.port import Row
    from charkha.serving.problems import Problem
    from charkha.serving.schema import RowSchema

_MOST_COLUMNS = 20_000  # in a body; those that the model does not take cost time all the same
MOST_ORDERS = 64  # that are remembered; a caller who shuffles columns forever gains nothing


class Converter:
    """`msgspec.convert` to one type, which is compiled once: a struct's is kept, others' are not."""

    def __init__(self, kind: Any) -> None:
        self._box: Any = msgspec.defstruct("Box", [("values", kind)], gc=False)

    def __call__(self, values: object) -> Any:
        """Return the values as this type; a text may stand for a number.

        Raises:
            msgspec.ValidationError: they are not.
        """
        try:
            return msgspec.convert({"values": values}, self._box, strict=False).values
        except msgspec.ValidationError as e:
            raise msgspec.ValidationError(str(e).replace("`$.values", "`$", 1)) from e


class Placed:
    """Reads rows that are lists of values in one order of the columns.

    A text may stand for a number where the protocols have it so: "3.5" is 3.5, "true" is true.

    Args:
        schema: of the model.
        names: of the columns, in the caller's order; those the model does not take are left out.
        most_rows: more are refused, before the columns that do not come are filled in.

    Raises:
        Problem: 422, a column comes twice or one that is required does not come.
    """

    def __init__(self, schema: RowSchema, names: Sequence[str], most_rows: int) -> None:
        self.names = tuple(names)
        check_names(schema, self.names)
        self._schema, self._most_rows = schema, most_rows
        known = dict(zip(schema.names, schema.kinds, strict=True))
        kinds = tuple(known.get(name, Any) for name in names)
        kind = list[tuple[kinds]]  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind, strict=False)
        self._convert = Converter(kind)
        given = {name: at for at, name in enumerate(names)}
        self._from = [given.get(name) for name in schema.names]  # of each column of the signature
        self._arrange = _arranging(self._from, len(names))

    def decode(self, body: msgspec.Raw, place: Place) -> list[Row]:
        """Return rows out of a JSON list of lists.

        Raises:
            Problem: 422 for rows that do not fit, with the place.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: that is no JSON.
        """
        try:
            rows = self._decoder.decode(body)
        except msgspec.ValidationError as e:
            raise self._misfit(str(e), place) from e
        return self._settle(rows, place)

    def convert(self, rows: Sequence[Sequence[object]], place: Place) -> list[Row]:
        """Return rows out of plain Python values.

        Args:
            rows: numbers are finite; None where there is no value.
            place: tells where a row, or its column in the caller's order, stands.

        Raises:
            Problem: 422 for rows that do not fit, with the place.
        """
        try:
            placed = self._convert(rows)
        except msgspec.ValidationError as e:
            raise self._misfit(str(e), place) from e
        return self._settle(placed, place)

    def _settle(self, rows: list[Row], place: Place) -> list[Row]:
        if len(rows) > self._most_rows:
            raise too_many(self._most_rows)
        if self._arrange is not None:
            rows = [self._arrange(row) for row in rows]
        return self._schema.settle(
            rows, lambda row, at: place(row, None if at is None else self._from[at])
        )

    def _misfit(self, said: str, place: Place) -> Problem:
        what, row, at, field = fault_in(said)
        if at is not None and at < len(self.names):
            field = self.names[at]
        return misfit(what, "" if row is None else place(row, at), row, field)


class Orders:
    """Remembers a Placed for each order of columns that callers use. Safe to share."""

    def __init__(self, schema: RowSchema, most_rows: int) -> None:
        self._schema, self._most_rows = schema, most_rows
        self._known: dict[tuple[str, ...], Placed] = {}
        self.own = self.of(schema.names)

    def of(self, names: tuple[str, ...]) -> Placed:
        """Return what reads rows in this order.

        Raises:
            Problem: as `Placed`.
        """
        found = self._known.get(names)
        if found is None:
            found = Placed(self._schema, names, self._most_rows)
            if len(self._known) >= MOST_ORDERS:
                self._known.clear()
            self._known[names] = found
        return found


def _arranging(wanted: Sequence[int | None], given: int) -> Callable[[Row], Row] | None:
    """Return what puts a row into the signature's order; None where it is in it already."""
    if list(wanted) == list(range(given)):
        return None
    take = [-1 if at is None else at for at in wanted]  # what did not come: from the end, None
    if len(take) == 1:
        only = take[0]
        return (lambda row: (None,)) if only < 0 else (lambda row: (row[only],))
    pick: Callable[[Row], Row] = itemgetter(*take)
    if None in wanted:
        return lambda row: pick((*row, None))
    return pick


def check_names(schema: RowSchema, names: Sequence[str]) -> None:
    """Make sure that every column that the model requires is there, and none that it takes twice.

    Raises:
        Problem: 422.
    """
    if len(names) > _MOST_COLUMNS:
        raise misfit(f"there are {len(names):,} columns; send those of the model", "", None, None)
    given = set(names)
    if len(given) < len(names):
        for name in schema.names:
            if names.count(name) > 1:
                raise misfit(f"there are two columns '{name}'", "", None, name)
    for column in schema.columns:
        name = str(column["name"])
        if name not in given and column.get("required", True):
            raise misfit(f"there is no column '{name}', and it is required", "", None, name)
