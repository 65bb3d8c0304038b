"""Checks of a dataset: the rules that stand beside it, and what it means to break them.

`data/ames.checks.toml` declares what is true of `data/ames.*`; see docs/how-to/data.md. Here a rule is
a value; `charkha.data.pandera` holds a table against it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from charkha.clock import to_minute
from charkha.definition import nearest
from charkha.errors import DataError, ProjectError

SHOWN = 5  # rows named for each broken rule

ColumnType = Literal["integer", "number", "string", "boolean", "datetime"]
Bound = int | float | date  # a datetime is a date


@dataclass(frozen=True, kw_only=True)
class ColumnRules:
    """What is true of every value of a column."""

    type: ColumnType | None = None
    nullable: bool = False
    required: bool = True
    min: Bound | None = None
    max: Bound | None = None
    one_of: tuple[object, ...] | None = None
    unique: bool = False
    pattern: str | None = None  # of the whole text


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """How old the data may be: its newest `column`, or the version where none is named."""

    max_age_days: float
    column: str | None = None

    @property
    def max_age(self) -> timedelta:
        return timedelta(days=self.max_age_days)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is true of a dataset."""

    columns: Mapping[str, ColumnRules]
    required: tuple[str, ...] = ()  # columns with no other rule
    keys: tuple[tuple[str, ...], ...] = ()  # columns that together are never twice the same
    min_rows: int = 1
    extra_columns: bool = True
    freshness: Freshness | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One rule that does not hold."""

    rule: str  # "Sale_Price is at least 0"
    count: int = 0  # rows that break it; 0 where it is about the whole table
    rows: tuple[tuple[int, str], ...] = ()  # the first of them: number (from 0), value

    def __str__(self) -> str:
        if not self.rows:
            return self.rule
        shown = ", ".join(f"row {number} has {value}" for number, value in self.rows)
        more = self.count - len(self.rows)
        return f"{self.rule}, but {shown}{f' and {more:,} more rows' if more else ''}"


def broken(name: str, failures: Sequence[Failure], file: Path) -> DataError:
    """Return the error that names every broken rule with its first rows, counted from 0."""
    lines = "".join(f"\n  {failure}" for failure in failures)
    count = f"{len(failures)} of its rules" if len(failures) > 1 else "a rule"
    return DataError(f"{name} breaks {count}:{lines}", fix=f"mend the data, or the rule in {file}")


def check_age(rules: Rules, newest: datetime | None, now: datetime) -> list[Failure]:
    """Hold the moment of the newest row (or of the version) against the freshness rule."""
    if rules.freshness is None:
        return []
    what = f"newest {rules.freshness.column}" if rules.freshness.column else "version"
    rule = f"the {what} is at most {rules.freshness.max_age_days:g} days old"
    if newest is None:
        return [Failure(rule=f"{rule}, but there is none")]
    age = now - newest
    if age <= rules.freshness.max_age:
        return []
    days = age / timedelta(days=1)
    return [Failure(rule=f"{rule}, but it is of {to_minute(newest)}, {days:,.1f} days ago")]


def read_rules(file: Path) -> Rules:
    """Read a checks file.

    Raises:
        DataError: there is none.
        ProjectError: it is not TOML, or says what is no rule; with the line.
    """
    try:
        text = file.read_text("utf-8-sig")
        declared = tomllib.loads(text)
    except FileNotFoundError as e:
        raise DataError(
            f"{file} does not exist, so there is nothing to check",
            fix='write it: min_rows = 1, [columns.NAME] with type = "number", min, max …',
        ) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as e:
        raise ProjectError(f"it cannot be read: {e}", where=str(file)) from e
    return _Reader(file, text).rules(declared)


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "flag": ((bool,), "true or false"),
    "count": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "bound": ((int, float, date), "a number or a date"),
    "text": ((str,), "text"),
    "list": ((list,), "a list"),
    "section": ((dict,), "a section"),
}
_TABLE = {
    "min_rows": "count",
    "required": "list",
    "unique": "list",
    "extra_columns": "flag",
    "freshness": "section",
    "columns": "section",
}
_FRESHNESS = {"column": "text", "max_age_days": "number"}
_COLUMN = {
    "type": "text",
    "nullable": "flag",
    "required": "flag",
    "min": "bound",
    "max": "bound",
    "one_of": "list",
    "unique": "flag",
    "pattern": "text",
}
_TYPES = ColumnType.__args__  # type: ignore[attr-defined]  # typing.get_args, without its Any


class _Reader:
    """Turns what stands in the file into rules, or says on which line it cannot."""

    def __init__(self, file: Path, text: str) -> None:
        self._file, self._text = file, text

    def rules(self, declared: dict[str, object]) -> Rules:
        table = self._section("", declared, _TABLE)
        columns = self._section_of(table, "columns")
        fresh = self._section_of(table, "freshness")
        return Rules(
            columns={name: self._column(name, given) for name, given in columns.items()},
            required=self._names("required", table.get("required", [])),
            keys=self._keys(table.get("unique", [])),
            min_rows=_whole(table.get("min_rows", 1)),
            extra_columns=bool(table.get("extra_columns", True)),
            freshness=self._freshness(fresh) if fresh else None,
        )

    def _freshness(self, given: dict[str, object]) -> Freshness:
        fresh = self._section("freshness", given, _FRESHNESS)
        if "max_age_days" not in fresh:
            raise self._error("freshness", "", "freshness needs max_age_days", "max_age_days = 30")
        column = fresh.get("column")
        return Freshness(
            max_age_days=float(str(fresh["max_age_days"])),
            column=None if column is None else str(column),
        )

    def _column(self, name: str, given: object) -> ColumnRules:
        section = f"columns.{name}"
        if not isinstance(given, dict):
            raise self._error("columns", name, f"{name} is a section", f"write [{section}]")
        rules = self._section(section, given, _COLUMN)
        kind = rules.get("type")
        if kind is not None and kind not in _TYPES:
            raise self._unknown(section, "type", f"there is no type {kind!r}", str(kind), _TYPES)
        if "one_of" in rules:
            rules["one_of"] = tuple(rules["one_of"])  # type: ignore[arg-type]  # a list, by now
        try:
            re.compile(str(rules.get("pattern", "")))
        except re.error as e:
            raise self._error(section, "pattern", f"this is no pattern: {e}") from e
        return ColumnRules(**rules)  # type: ignore[arg-type]  # each was held against its kind

    def _section_of(self, table: dict[str, object], name: str) -> dict[str, object]:
        found = table.get(name, {})
        return found if isinstance(found, dict) else {}

    def _section(
        self, section: str, given: dict[str, object], known: Mapping[str, str]
    ) -> dict[str, object]:
        for key, value in given.items():
            if key not in known:
                where = f"[{section}]" if section else "a checks file"
                raise self._unknown(section, key, f"{where} has no key {key!r}", key, known)
            kinds, wording = _KINDS[known[key]]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise self._error(section, key, f"{key} is {wording}, not {value!r}")
        return dict(given)

    def _keys(self, given: object) -> tuple[tuple[str, ...], ...]:
        listed = given if isinstance(given, list) else []
        if all(isinstance(item, str) for item in listed):  # unique = ["a", "b"] is one key of both
            return (self._names("unique", listed),) if listed else ()
        return tuple(self._names("unique", item) for item in listed)

    def _names(self, key: str, given: object) -> tuple[str, ...]:
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise self._error("", key, f"{key} is a list of names of columns, not {given!r}")
        return tuple(given)

    def _unknown(
        self, section: str, key: str, what: str, word: str, known: Mapping[str, str] | Sequence[str]
    ) -> ProjectError:
        meant = nearest(word, known)
        fix = f"did you mean {meant!r}?" if meant else f"known: {', '.join(known)}"
        return self._error(section, key, what, fix)

    def _error(self, section: str, key: str, what: str, fix: str | None = None) -> ProjectError:
        where = f"{self._file}:{_line(self._text, section, key)}"
        return ProjectError(what, where=where, fix=fix)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _line(text: str, section: str, key: str) -> int:
    """Return the line (from 1) of `key` in `[section]`, or of the section, or 1."""
    inside, found = "", 1
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("["):
            inside = line.strip("[] ").replace('"', "").replace("'", "")
            found = number if inside == section else found
        name = line.partition("=")[0].strip().strip("\"'")
        if key and inside == section and name == key and "=" in line:
            return number
        if key and not inside and name == f"{section}.{key}":
            return number
    return found
