"""Signature: the columns a model takes, inferred from its training rows and enforced on others.

Type names are those of MLflow's model schema (double, float, long, integer, string, boolean,
datetime), so that a package's signature and its MLflow version say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Literal

import numpy as np
import pandas as pd

from charkha.errors import DataError, UserError

_INTEGERS: dict[str, tuple[Literal["int32", "int64"], Literal["Int32", "Int64"], int]] = {
    "integer": ("int32", "Int32", 2**31),
    "long": ("int64", "Int64", 2**63),
}
_FLOATS: dict[str, type[np.floating]] = {"float": np.float32, "double": np.float64}
_MISSING_TEXT = {"", "nan", "na", "null", "none"}  # in a number's place; text keeps all but ""
_FIT_INTO_32_BITS = {"int8", "int16", "int32", "uint8", "uint16"}
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    name: str
    type: str
    required: bool = True  # False: it may be null, and absent means null
    categories: tuple[str, ...] | None = None  # where the model was trained on pandas categories


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What goes in, in order, and what comes out."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]

    def as_json(self) -> dict[str, list[dict[str, object]]]:
        return {"inputs": _described(self.inputs), "outputs": _described(self.outputs)}

    @classmethod
    def from_json(cls, described: dict[str, list[dict[str, object]]]) -> Signature:
        return cls(inputs=_revived(described["inputs"]), outputs=_revived(described["outputs"]))


@dataclass(frozen=True, kw_only=True)
class Conformed:
    """Rows as the model takes them, and what a person should know about the way there."""

    rows: pd.DataFrame
    notices: list[str] = field(default_factory=list)


def infer_columns(rows: pd.DataFrame, names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns `names` as they are in the training rows.

    Raises:
        DataError: a column is absent, empty, or of a type that no request could carry.
    """
    return tuple(_infer(rows, name) for name in names)


def conform(rows: pd.DataFrame, columns: Sequence[Column]) -> Conformed:
    """Return `rows` with these columns in this order, each of its type.

    Text is read as the column's type ("12" as a number, "2008-06-01" as a date), so a CSV may come
    as text; integers widen to floats. Columns that the model does not take are left out.

    Raises:
        DataError: no rows; a required column is absent or null somewhere; a value is not of its
            column's type. Names the column, the row (from 1) and the value.
    """
    if len(rows) == 0:
        raise DataError("the table has no rows", fix="give at least one row to predict")
    _check_names(rows, columns)
    kept = {c.name: _conform(rows, c) for c in columns}
    extra = [str(name) for name in rows.columns if name not in kept]
    notices = [f"ignored columns that the model does not take: {_some(extra)}"] if extra else []
    for column in columns:
        if column.categories is not None:
            notices += _unseen(rows, column, kept[column.name])
    return Conformed(rows=pd.DataFrame(kept, index=pd.RangeIndex(len(rows))), notices=notices)


def type_of(values: pd.Series) -> str | None:
    """Return the signature's name for a column's type; None where it has none."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return type_of(pd.Series(dtype.categories))
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(dtype):
        return "integer" if str(dtype).lower() in _FIT_INTO_32_BITS else "long"
    if pd.api.types.is_float_dtype(dtype):
        return "float" if str(dtype).lower() in ("float16", "float32") else "double"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "datetime"
    return _type_of_objects(values)


def _type_of_objects(values: pd.Series) -> str | None:
    kinds = {type(v) for v in values.dropna().tolist()}
    if kinds == {bool}:
        return "boolean"
    return "string" if kinds <= {str} else None


def _infer(rows: pd.DataFrame, name: str) -> Column:
    if name not in rows.columns:
        raise DataError(
            f"the model was trained on a column {name!r}, which the training rows lack",
            fix="give register() the rows that the model was fitted on",
        )
    values = rows[name]
    kind = type_of(values)
    if kind is None:
        odd = next(v for v in values.dropna().tolist() if not isinstance(v, str))
        raise DataError(
            f"column {name!r} holds {type(odd).__name__} values among others, as no request can",
            fix="make it numbers, text, booleans or dates before you fit",
        )
    categories = None
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = tuple(map(str, values.dtype.categories))
    return Column(name=name, type=kind, required=not values.isna().any(), categories=categories)


def _check_names(rows: pd.DataFrame, columns: Sequence[Column]) -> None:
    present = {str(name) for name in rows.columns}
    absent = [c.name for c in columns if c.required and c.name not in present]
    if not absent:
        return
    known = {c.name for c in columns}
    close = get_close_matches(absent[0], sorted(present - known), n=1)
    also = f" ({len(absent)} columns are missing: {_some(absent)})" if len(absent) > 1 else ""
    raise DataError(
        f"column {absent[0]!r} is missing{also}",
        fix=f"rename {close[0]!r} to {absent[0]!r}" if close else f"add the column {absent[0]!r}",
    )


def _conform(rows: pd.DataFrame, column: Column) -> pd.Series:
    if column.name in rows.columns:
        values = rows[column.name].reset_index(drop=True)
    else:
        values = pd.Series([None] * len(rows), dtype=object)
    if column.categories is not None:
        return pd.Series(pd.Categorical(_text(values, column), categories=column.categories))
    if column.type == "string":
        return _text(values, column)
    if column.type == "boolean":
        return _booleans(values, column)
    if column.type == "datetime":
        return _datetimes(values, column)
    return _numbers(values, column)


def _numbers(values: pd.Series, column: Column) -> pd.Series:
    if pd.api.types.is_bool_dtype(values.dtype):
        raise _wrong(column, 0, values.iloc[0])
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.astype(np.float64) if values.dtype.kind != "i" else values
        null = values.isna()
    else:
        null = _null(values, _MISSING_TEXT)
        numbers = _read(values.where(~null, None), column)
        booleans = values.map(lambda v: isinstance(v, bool | np.bool_))
        _check(values, column, (numbers.isna() & ~null) | booleans)
    _check_null(values, column, null)
    if column.type in _FLOATS:
        with np.errstate(over="ignore"):  # what is too large for 32 bits is told with its row
            floats = numbers.astype(_FLOATS[column.type])
        _check(values, column, pd.Series(np.isinf(floats)))
        return floats
    return _whole(values, numbers, column, null)


def _read(values: pd.Series, column: Column) -> pd.Series:
    try:
        return pd.to_numeric(values, errors="coerce")
    except OverflowError as e:  # an integer of more than 308 digits, as JSON may have it
        sizes = values.map(lambda v: v.bit_length() if isinstance(v, int) else 0)
        row = int(np.argmax(sizes))
        raise _wrong(column, row, values.iloc[row]) from e


def _whole(values: pd.Series, numbers: pd.Series, column: Column, null: pd.Series) -> pd.Series:
    plain, nullable, beyond = _INTEGERS[column.type]
    whole = (numbers >= -beyond) & (numbers < beyond) & (numbers % 1 == 0)
    _check(values, column, ~whole & ~null)
    # pandas' own nullable integers, as a column that was trained with nulls
    return numbers.astype(nullable) if null.any() else numbers.astype(plain)


def _text(values: pd.Series, column: Column) -> pd.Series:
    null = _null(values, {""})
    _check_null(values, column, null)
    plain = values.astype(object).where(~null, None)
    _check(values, column, plain.map(lambda v: v is not None and not isinstance(v, str)))
    return plain


def _booleans(values: pd.Series, column: Column) -> pd.Series:
    null = _null(values, _MISSING_TEXT)
    _check_null(values, column, null)
    read = values.map(lambda v: _BOOLEANS.get(v.lower()) if isinstance(v, str) else v)
    _check(values, column, ~read.map(lambda v: isinstance(v, bool | np.bool_)) & ~null)
    return read.where(~null, None).astype(object) if null.any() else read.astype(bool)


def _datetimes(values: pd.Series, column: Column) -> pd.Series:
    null = _null(values, _MISSING_TEXT)
    _check_null(values, column, null)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values
    _check(values, column, values.map(lambda v: isinstance(v, int | float)) & ~null)
    moments = pd.to_datetime(values.where(~null, None), errors="coerce", format="ISO8601")
    _check(values, column, moments.isna() & ~null)
    return moments


def _null(values: pd.Series, texts: set[str]) -> pd.Series:
    return values.map(
        lambda v: v.strip().lower() in texts if isinstance(v, str) else bool(pd.isna(v))
    ).astype(bool)


def _check_null(values: pd.Series, column: Column, null: pd.Series) -> None:
    if column.required and null.any():
        row = int(np.flatnonzero(null)[0])
        raise DataError(
            f"column {column.name!r} has no value in row {row + 1}, and is required "
            f"({int(null.sum())} of {len(values)} rows)",
            fix=f"fill it in: the model was never trained without {column.name!r}",
        )


def _check(values: pd.Series, column: Column, bad: pd.Series) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise _wrong(column, row, values.iloc[row])


def _wrong(column: Column, row: int, value: object) -> DataError:
    plain = value if isinstance(value, str) else getattr(value, "item", lambda: value)()
    shown = repr(plain)
    shown = shown if len(shown) <= 40 else shown[:37] + "…"
    where = f"column {column.name!r}, row {row + 1}: {shown}"
    kind, example = _WORDS[column.type]
    if limits := _overstepped(column, plain):
        bits = 32 if column.type in ("integer", "float") else 64
        return DataError(
            f"{where} does not fit into {bits} bits",
            fix=f"give {column.name!r} as {kind} from {limits[0]} to {limits[1]}",
        )
    return DataError(f"{where} is not {kind}", fix=f"give {column.name!r} as {kind}{example}")


def _overstepped(column: Column, value: object) -> tuple[str, str] | None:
    """Return the limits of a column's type where `value` is such a number, and beyond them."""
    number = None if isinstance(value, bool) else _number(str(value))
    if number is None:
        return None
    if column.type in _INTEGERS:
        beyond = _INTEGERS[column.type][2]
        whole = number == float("inf") or number == float("-inf") or number % 1 == 0
        out = whole and not -beyond <= number < beyond
        return (f"{-beyond:,}", f"{beyond - 1:,}") if out else None
    if column.type in _FLOATS:
        most = float(np.finfo(_FLOATS[column.type]).max)
        return (f"{-most:.2g}", f"{most:.2g}") if abs(number) > most else None
    return None


def _number(text: str) -> float | None:
    """Return the number, exactly where it is whole; None for all else, infinity by name too."""
    if text.strip().lower().lstrip("+-")[:3] in ("inf", "nan"):
        return None
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return None


_WORDS = {
    "integer": ("a whole number", ", such as 3"),
    "long": ("a whole number", ", such as 3"),
    "float": ("a number", ", such as 3.5"),
    "double": ("a number", ", such as 3.5"),
    "string": ("text", ', such as "North"'),
    "boolean": ("true or false", ""),
    "datetime": ("a date in ISO 8601", ", such as 2008-06-01"),
}


def _unseen(rows: pd.DataFrame, column: Column, kept: pd.Series) -> list[str]:
    if column.name not in rows.columns:
        return []
    lost = kept.isna() & ~_null(rows[column.name].reset_index(drop=True), {""})
    if not lost.any():
        return []
    row = int(np.flatnonzero(lost)[0])
    return [
        f"column {column.name!r}, row {row + 1}: the model has never seen "
        f"{rows[column.name].iloc[row]!r} and takes it as missing"
    ]


def _described(columns: Sequence[Column]) -> list[dict[str, object]]:
    return [{k: v for k, v in asdict(c).items() if v is not None} for c in columns]


def _revived(columns: Sequence[dict[str, object]]) -> tuple[Column, ...]:
    revived = []
    for c in columns:
        categories = c.get("categories")
        if categories is not None and not isinstance(categories, list | tuple):
            raise UserError(f"column {c.get('name')!r}: categories are not a list")
        revived.append(
            Column(
                name=str(c["name"]),
                type=str(c["type"]),
                required=bool(c.get("required", True)),
                categories=tuple(categories) if categories is not None else None,
            )
        )
    return tuple(revived)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
