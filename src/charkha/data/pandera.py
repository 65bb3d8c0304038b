"""Pandera: a dataset's rules compiled into a schema, and a table held against it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime

import pandas as pd
import pandera.pandas as pa
from pandas.api import types
from pandera.errors import SchemaErrors

from charkha.data.checks import SHOWN, Bound, ColumnRules, Failure, Rules
from charkha.definition import nearest


def failures(frame: pd.DataFrame, rules: Rules) -> list[Failure]:
    """Return the rules that the table breaks; freshness is `charkha.data.checks.check_age`."""
    frame = frame.reset_index(drop=True)
    with warnings.catch_warnings():
        # pandera 0.35 joins its report in a way that pandas 2 warns about; gone with its pandas 3
        warnings.simplefilter("ignore", FutureWarning)
        try:
            schema(rules).validate(frame, lazy=True)
        except SchemaErrors as e:
            return _read_report(e.failure_cases, frame, rules)
    return []


def newest(frame: pd.DataFrame, column: str) -> datetime | None:
    """Return the latest moment in a column of dates or ISO 8601 texts (UTC where none is said)."""
    if column not in frame.columns:
        return None
    latest = _moments(frame[column]).max()
    return None if pd.isna(latest) else latest.to_pydatetime().replace(tzinfo=UTC)


def schema(rules: Rules) -> pa.DataFrameSchema:
    """Return the pandera schema that says the same as the rules."""
    columns = {name: _column(name, column) for name, column in rules.columns.items()}
    for name in (*rules.required, *(name for key in rules.keys for name in key)):
        columns.setdefault(name, pa.Column(nullable=True))
    rows = pa.Check(lambda frame: len(frame) >= rules.min_rows, error=_rows_rule(rules))
    return pa.DataFrameSchema(
        columns,
        checks=[rows, *(_key_check(key) for key in rules.keys)],
        strict=not rules.extra_columns,
    )


def _column(name: str, rules: ColumnRules) -> pa.Column:
    checks: list[pa.Check] = []

    def add(text: str, holds: Callable[[pd.Series], object]) -> None:
        checks.append(pa.Check(holds, error=f"{name} {text}"))

    if rules.type is not None:
        wording, holds = _TYPES[rules.type]
        add(f"is {wording}", holds)
    if (low := rules.min) is not None:
        add(f"is at least {low}", lambda values: _measured(values, low) >= _bound(low))
    if (high := rules.max) is not None:
        add(f"is at most {high}", lambda values: _measured(values, high) <= _bound(high))
    if (allowed := rules.one_of) is not None:
        listed = ", ".join(map(repr, allowed))
        add(f"is one of {listed}", lambda values: values.isin(allowed))
    if (pattern := rules.pattern) is not None:
        add(f"matches {pattern}", lambda values: values.astype(str).str.fullmatch(pattern))
    if rules.unique:
        add("is never twice the same", lambda values: ~values.duplicated(keep=False))
    return pa.Column(checks=checks, nullable=rules.nullable, required=rules.required)


def _key_check(key: tuple[str, ...]) -> pa.Check:
    def holds(frame: pd.DataFrame) -> bool:
        absent = not set(key) <= set(frame.columns)  # which is a failure of its own
        return absent or not frame.duplicated(list(key)).any()

    return pa.Check(holds, error=_key_rule(key))


def _key_rule(key: tuple[str, ...]) -> str:
    return f"{' with '.join(key)} is never twice the same"


def _rows_rule(rules: Rules) -> str:
    return f"there are at least {rules.min_rows:,} row{'s' if rules.min_rows != 1 else ''}"


def _read_report(report: pd.DataFrame, frame: pd.DataFrame, rules: Rules) -> list[Failure]:
    """Turn pandera's table of failures (a line for each bad value) into one failure a rule."""
    found: list[Failure] = []
    keys = {_key_rule(key): key for key in rules.keys}
    for (check, column), cases in report.groupby(["check", "column"], dropna=False, sort=False):
        if check == "column_in_dataframe":
            found += [_missing(str(name), frame) for name in cases["failure_case"]]
        elif check == "column_in_schema":
            found += [
                Failure(rule=f"there is no column but those declared, but there is {name}")
                for name in cases["failure_case"]
            ]
        elif check == _rows_rule(rules):
            found.append(Failure(rule=f"{check}, but there are {len(frame):,}"))
        elif check in keys:
            found.append(_twice(str(check), frame, keys[check]))
        else:
            rule = f"{column} is never missing" if check == "not_nullable" else str(check)
            bad = cases.sort_values("index")
            shown = zip(bad["index"][:SHOWN], bad["failure_case"][:SHOWN], strict=True)
            rows = tuple((int(row), _shown(value)) for row, value in shown)
            found.append(Failure(rule=rule, count=len(bad), rows=rows))
    return found


def _missing(name: str, frame: pd.DataFrame) -> Failure:
    meant = nearest(name, map(str, frame.columns))
    return Failure(
        rule=f"there is a column {name}, but there is {f'only {meant}' if meant else 'none'}"
    )


def _twice(rule: str, frame: pd.DataFrame, key: tuple[str, ...]) -> Failure:
    bad = frame.loc[frame.duplicated(list(key), keep=False), list(key)].sort_values(list(key))
    shown = bad[:SHOWN].itertuples(name=None)
    rows = tuple((row, ", ".join(map(_shown, values))) for row, *values in shown)
    return Failure(rule=rule, count=len(bad), rows=rows)


def _shown(value: object) -> str:
    missing = value is None or value is pd.NaT or value != value  # NaN is not NaN
    return "nothing" if missing else repr(value) if isinstance(value, str) else str(value)


def _measured(values: pd.Series, bound: Bound) -> pd.Series:
    """Return the values as what `bound` is; what cannot be so compares as false."""
    if isinstance(bound, date):
        return _moments(values)
    return pd.to_numeric(values, errors="coerce")


def _bound(bound: Bound) -> object:
    if not isinstance(bound, date):
        return bound
    moment = pd.Timestamp(bound)
    return moment.tz_convert(None) if moment.tzinfo else moment


def _moments(values: pd.Series) -> pd.Series:
    if not types.is_datetime64_any_dtype(values.dtype):
        values = values.astype(str).where(values.notna())
        return pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601").dt.tz_convert(
            None
        )
    return pd.to_datetime(values, utc=True).dt.tz_convert(None)


def _each(values: pd.Series, *kinds: type) -> pd.Series:
    return values.astype(object).map(lambda v: isinstance(v, kinds) and type(v) is not bool)


def _integers(values: pd.Series) -> pd.Series:
    if types.is_float_dtype(values.dtype):  # how pandas reads whole numbers with a gap
        return values % 1 == 0
    return _numbers(values) if types.is_integer_dtype(values.dtype) else _each(values, int)


def _numbers(values: pd.Series) -> pd.Series:
    numeric = types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)
    return values.notna() if numeric else _each(values, int, float)


_TYPES: dict[str, tuple[str, Callable[[pd.Series], pd.Series]]] = {
    "integer": ("a whole number", _integers),
    "number": ("a number", _numbers),
    "string": ("a text", lambda values: _each(values, str)),
    "boolean": (
        "true or false",
        lambda values: values.astype(object).map(lambda v: type(v) is bool),
    ),
    "datetime": ("a date or a time", lambda values: _moments(values).notna()),
}
