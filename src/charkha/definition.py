"""A TOML file held against a schema: what is wrong is refused, with its line and a way out."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charkha.errors import ProjectError

if TYPE_CHECKING:
    from dataclasses import Field

Problem = tuple[str, str, str]  # key, what is wrong with it, what to do
Keys = tuple[str | int, ...]  # where a value stands: ("env", "prod", "gate", 0, "metric")


def http_problem(given: Mapping[str, object], key: str, who: str, example: str) -> Problem | None:
    """Return key, fault and fix of an address of `who` that nobody can ask over HTTP."""
    if str(given.get(key, example)).startswith(("http://", "https://")):
        return None
    return (
        key,
        f"{who} is asked over HTTP, and this is no address of that kind",
        f'{key} = "{example}"',
    )


def setting(text: str, default: Any = MISSING, **marks: object) -> Any:
    """Return a dataclass field that can stand in the file, with its line for the reference.

    Args:
        text: what it is, in one line.
        default: its value where the file has none; without a default it has to be given.
        marks: `path` (relative paths start at the file), `inside` (a path below the file's folder),
            `url` (may be a reference as a whole), `secret` (has to be a reference), `name` (letters,
            digits, - _ .), `choices`, `least`, `most`; the reader of the values may have more.
    """
    metadata = {"help": text, **marks}
    if default is dict:
        return field(default_factory=dict, metadata=metadata)
    return (
        field(metadata=metadata)
        if default is MISSING
        else field(default=default, metadata=metadata)
    )


def settings_of(section: type) -> list[Field[Any]]:
    """Return the fields of a section that can stand in the file, in order."""
    return [declared for declared in fields(section) if declared.metadata]


class Definition:
    """One file: sections, the same sections again below `[env.NAME]`, and where each key stands."""

    def __init__(self, file: Path, schema: Mapping[str, type], lists: Iterable[str] = ()) -> None:
        """Read the file. `schema` has a dataclass for each section; `lists` are `[[written]]` so.

        A section's class may have a static method `problem(given) -> (key, what, fix) | None` for
        what a single value cannot show.

        Raises:
            ProjectError: it is not TOML, or it breaks the schema.
        """
        self._file, self._schema, self._lists = file.name, schema, frozenset(lists)
        self._root = file.parent
        try:
            self._text = file.read_text(encoding="utf-8-sig")  # Windows' editors write a BOM
            self._base = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as e:
            what, _, position = str(e).partition(" (at ")
            line = position.removeprefix("line ").split(",")[0]
            where = f"{file.name}:{line}" if line.isdigit() else file.name
            fix = 'key = "text", or = 3, true, ["a", "b"]; a [section] stands on a line of its own'
            raise ProjectError(f"this is not TOML: {what}", where=where, fix=fix) from e
        except UnicodeDecodeError as e:
            raise ProjectError("this is not UTF-8", where=file.name) from e
        self._environments = self._table(("env",), self._base.pop("env", {}))
        self._check_sections((), self._base)
        for name, sections in self._environments.items():
            self._check_sections(("env", name), self._table(("env", name), sections))

    def tables(self, environment: str) -> dict[str, Any]:
        """Return the sections as one environment sees them; `local` needs none of its own.

        Raises:
            ProjectError: there is no such environment.
        """
        if environment != "local" and environment not in self._environments:
            raise ProjectError(
                f"there is no [env.{environment}…] section",
                where=self._file,
                fix=f"use one of: {', '.join(sorted({'local', *self._environments}))}",
            )
        return _merge(self._base, self._environments.get(environment, {}))

    def where(self, environment: str, section: str, key: str) -> str:
        """Return `charkha.toml:14` for a key, as this environment sees it."""
        overrides = key in self._environments.get(environment, {}).get(section, {})
        at = (*(("env", environment) if overrides else ()), section, key)
        return f"{self._file}:{_line(self._text, at)}"

    def _check_sections(self, above: Keys, sections: Mapping[str, object]) -> None:
        for name, content in sections.items():
            at = (*above, name)
            if name not in self._schema:
                raise self._no_section(above, name, content)
            if name not in self._lists:
                self._check_section(at, self._schema[name], self._table(at, content))
            elif isinstance(content, list):
                for index, item in enumerate(content):
                    self._check_section((*at, index), self._schema[name], self._table(at, item))
            else:
                raise self._error(
                    at, f"{name} is a list", fix=f"write [[{name}]], with two brackets"
                )

    def _check_section(self, at: Keys, kind: type, given: Mapping[str, object]) -> None:
        section = next(name for name in reversed(at) if isinstance(name, str))
        known = {declared.name: declared for declared in settings_of(kind)}
        for key, value in given.items():
            if key not in known:
                raise self._no_key(at, section, key, known)
            self._check_value((*at, key), known[key], value)
        for key, declared in known.items():
            if declared.default is declared.default_factory is MISSING and key not in given:
                raise self._error(at, f"[{section}] needs {key}", fix=f"{key} = …")
        problem = getattr(kind, "problem", lambda given: None)(given)
        if problem is not None:
            key, what, fix = problem
            raise self._error((*at, key), what, fix=fix)

    def _check_value(self, at: Keys, declared: Field[Any], value: object) -> None:
        expected, wording, example = _expected(declared)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            found, meant = _found(value), _meant(value, expected, declared.name) or example
            if declared.metadata.get("secret"):
                found, meant = _kind(value), '"env:NAME"'
            raise self._error(
                at,
                f"{declared.name} is {wording}, not {found}",
                fix=f"{declared.name} = {meant}" if meant else f"[{'.'.join(map(str, at))}]",
            )
        if isinstance(value, str):
            self._check_text(at, declared, value)
        elif isinstance(value, dict):
            self._check_json(at, value)
        elif isinstance(value, list):
            self._check_texts(at, declared, value)
        elif isinstance(value, int | float):
            self._check_range(at, declared, value)

    def _check_texts(self, at: Keys, declared: Field[Any], values: list[object]) -> None:
        for value in values:
            if not isinstance(value, str):
                what = f"{declared.name} is a list of texts, and {_found(value)} is none"
                raise self._error(at, what, fix=f'{declared.name} = ["…"]')
            self._check_text(at, declared, value)

    def _check_text(self, at: Keys, declared: Field[Any], value: str) -> None:
        name, marks = declared.name, declared.metadata
        if not value.strip():
            raise self._error(at, f"{name} is empty", fix="give it a value, or take the line out")
        if marks.get("secret") and not is_reference(value):
            raise self._error(
                at,
                f"{name} is a secret, and a secret never stands in this file",
                fix=f'{name} = "env:NAME" or "file:PATH"',
            )
        if _has_password(value):
            raise self._error(
                at,
                f"{name} has a password in it, and a secret never stands in this file",
                fix=f'{name} = "env:NAME"' if marks.get("url") else "take the password out",
            )
        if "choices" in marks and value not in marks["choices"]:
            raise self._unknown(at, f"{name} is never {value!r}", value, marks["choices"])
        if marks.get("name") and not (value and all(c.isalnum() or c in "-_." for c in value)):
            raise self._error(at, f"{value!r} is no name", fix="use letters, digits, - _ and .")
        if marks.get("inside") and not _is_inside(self._root, value):
            raise self._error(
                at,
                f"{name} {value!r} is outside of the project",
                fix=f'{name} = "{declared.default}"',
            )

    def _check_range(self, at: Keys, declared: Field[Any], value: float) -> None:
        least, most = declared.metadata.get("least"), declared.metadata.get("most")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(
                at,
                f"{declared.name} is {value}, with which nothing compares",
                fix="give it a number, or take the line out",
            )
        if least is not None and value < least:
            raise self._error(at, f"{declared.name} is at least {least}, not {value}")
        if most is not None and value > most:
            raise self._error(at, f"{declared.name} is at most {most}, not {value}")

    def _check_json(self, at: Keys, value: object) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                self._check_json((*at, name), item)
        elif isinstance(value, list):
            for item in value:
                self._check_json(at, item)
        elif not isinstance(value, str | int | float | bool):
            raise self._error(at, f"JSON knows no {type(value).__name__}", fix=f'write "{value}"')

    def _table(self, at: Keys, content: object) -> dict[str, Any]:
        if not isinstance(content, dict):
            name = ".".join(str(key) for key in at)
            raise self._error(at, f"{name} is a section, not {_found(content)}", fix=f"[{name}]")
        return content

    def _no_section(self, above: Keys, name: str, content: object) -> ProjectError:
        at = (*above, name)
        tables = content if isinstance(content, list) else [content]  # [[name]] is several
        if tables and all(isinstance(table, dict) for table in tables):
            known = self._schema if above else [*self._schema, "env"]
            return self._unknown(at, f"there is no section [{name}]", name, known)
        keys = {known.name for kind in self._schema.values() for known in settings_of(kind)}
        meant = nearest(name, sorted(keys))
        if meant is None:
            fix = f"write it below one of: {', '.join(self._schema)}"
        elif meant == name:
            fix = f"write it below {self._homes(above, name)}"
        else:
            fix = f"did you mean {meant!r}, below {self._homes(above, meant)}?"
        return self._error(at, f"{name!r} stands outside of its section", fix=fix)

    def _no_key(self, at: Keys, section: str, key: str, known: Iterable[str]) -> ProjectError:
        what = f"[{section}] has no key {key!r}"
        homes = self._homes(at[:2] if at[0] == "env" else (), key)
        if homes and not nearest(key, known):
            return self._error((*at, key), what, fix=f"write it below {homes}")
        return self._unknown((*at, key), what, key, known)

    def _homes(self, above: Keys, key: str) -> str:
        """Return the sections that have this key: `[project] or [model]`."""
        found = []
        for name, kind in self._schema.items():
            if key in {declared.name for declared in settings_of(kind)}:
                heading = ".".join((*map(str, above), name))
                found.append(f"[[{heading}]]" if name in self._lists else f"[{heading}]")
        return " or ".join(found)

    def _unknown(self, at: Keys, what: str, word: str, known: Iterable[str]) -> ProjectError:
        meant = nearest(word, known)
        return self._error(
            at, what, fix=f"did you mean {meant!r}?" if meant else f"known: {', '.join(known)}"
        )

    def _error(self, at: Keys, what: str, *, fix: str | None = None) -> ProjectError:
        return ProjectError(what, where=f"{self._file}:{_line(self._text, at)}", fix=fix)


def is_reference(value: str) -> bool:
    """Whether the text says where a secret is: `env:NAME` or `file:PATH`."""
    kind, _, name = value.partition(":")
    return kind in ("env", "file") and bool(name) and not name.startswith("//")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a typing error would have turned into `word`."""
    difflib = import_module("difflib")  # late: 2 ms, and only for a mistake
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def _line(text: str, wanted: Keys) -> int:
    """Return the line (from 1) of a key, or of what stands nearest above it.

    A scan, because tomllib keeps no positions; in a text in triple quotes it takes a line that looks
    like a key for one.
    """
    table: Keys = ()
    counts: dict[Keys, int] = {}
    best, depth = 1, 0
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("[["):
            name = _split(line[2:].partition("]]")[0])
            counts[name] = counts.get(name, -1) + 1
            here = table = (*name, counts[name])
        elif line.startswith("["):
            here = table = _split(line[1:].partition("]")[0])
        elif "=" in line:  # in a comment too, but `# port` is no key that anybody looks for
            here = (*table, *_split(line.partition("=")[0]))
        else:
            continue
        shared = len(os.path.commonprefix([here, wanted]))
        if shared > depth:
            best, depth = number, shared
    return best


def _split(key: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in key.split("."))


_Kind = tuple[type | tuple[type, ...], str, str]  # what it is in Python, in words, an example
_KINDS: dict[str, _Kind] = {
    "str": (str, "text", '"…"'),
    "Path": (str, "text", '"…"'),
    "float": ((int, float), "a number", "0.5"),
    "int": (int, "a whole number", "1"),
    "bool": (bool, "true or false", "true"),
    "dict[str, object]": (dict, "a section", ""),
}
_TEXTS: _Kind = (list, "a list of texts", '["…"]')
_SPAN, _SECONDS = (
    re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d)"),
    {"s": 1, "min": 60, "h": 3600, "d": 86_400},
)
_SHOWN = 40  # characters of a value in a message


def _expected(declared: Field[Any]) -> _Kind:
    annotation = str(declared.type).removesuffix(" | None")  # text, as annotations are postponed
    if annotation == "tuple[str, ...]":
        return _TEXTS
    return _KINDS.get(annotation, _KINDS["str"])  # a Literal is text


def _kind(value: object) -> str:
    for kind, wording, _ in (*reversed(_KINDS.values()), (list, "a list", "")):
        if isinstance(value, kind):
            return wording
    return f"a {type(value).__name__}"


def _found(value: object) -> str:
    """Return a value of the wrong kind for a message: `the text "2"`, `true`, `a list`."""
    if isinstance(value, dict | list) or (isinstance(value, str) and _has_password(value)):
        return _kind(value)
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
    kind = {str: "the text ", int: "the number ", float: "the number ", bool: ""}.get(type(value))
    return f"{kind}{shown}" if kind is not None else f"the {type(value).__name__} {value}"


def _meant(value: object, expected: type | tuple[type, ...], name: str) -> str | None:
    """Return the value as it would be written right, where that can be told."""
    if name.endswith("_s") and isinstance(value, str) and (span := _SPAN.fullmatch(value)):
        return f"{float(span[1]) * _SECONDS[span[2]]:.15g}"
    if expected is str and type(value) in (int, float):
        return f'"{value}"'
    if not isinstance(value, str) or expected in (str, dict, list):
        return None
    if expected is bool:
        return value.lower() if value.lower() in ("true", "false") else None
    try:
        (int if expected is int else float)(value)
    except ValueError:
        return None
    return value.strip()


def _is_inside(root: Path, path: str) -> bool:
    """Whether a path, as it is written or as it leads through links, ends below the root."""
    whole = os.path.join(root, os.path.expanduser(path))
    ends = (os.path.normpath(whole), os.path.realpath(whole))
    return any(Path(end).is_relative_to(root) for end in ends)


def _has_password(value: str) -> bool:
    _, separator, rest = value.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return bool(separator and at and ":" in user)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged
