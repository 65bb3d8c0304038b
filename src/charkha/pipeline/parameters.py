"""Parameters of a run: named, typed by the pipeline's signature, read from text where given as such."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import ProjectError, UserError

if TYPE_CHECKING:
    from charkha.pipeline.steps import Pipeline
    from charkha.project import Project

_FIX = """--params '{"alpha": 0.3}', or a file: charkha render dvc writes params.yaml"""
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parsed(
    pipeline: Pipeline[Any, Any], given: Mapping[str, object], project: Project
) -> dict[str, object]:
    """Return a value for every parameter of the pipeline.

    Raises:
        ProjectError: one is unknown, missing, or of another type than is declared.
    """
    known = pipeline.signature.parameters
    where = f"pipeline {pipeline.name!r}"
    for name in given:
        if name not in known:
            meant = nearest(name, known)
            raise ProjectError(
                f"no parameter is called {name!r}",
                where=where,
                fix=f"did you mean {meant!r}?"
                if meant
                else f"its parameters are: {', '.join(known) or 'none'}",
            )
    types = get_type_hints(pipeline.function)
    values: dict[str, object] = {}
    for name, parameter in known.items():
        if name in given:
            values[name] = typed(given[name], types.get(name), f"{where}, parameter {name!r}")
        elif parameter.default is not inspect.Parameter.empty:
            values[name] = parameter.default
        else:
            raise ProjectError(
                f"parameter {name!r} needs a value",
                where=where,
                fix=f"charkha run --param {name}=…",
            )
    return values


def given_as(text: str, folder: Path) -> dict[str, object]:
    """Return parameters by name: of an object of JSON, or of a file of it, or of YAML.

    Args:
        text: the object itself, or the file's path.
        folder: from which the path leads.

    Raises:
        UserError: there is no such file, or it has no parameters by name.
    """
    if text.lstrip().startswith(("{", "[")):
        return _by_name(_from_json(text, "--params"), "--params")
    file = folder / text
    try:
        kept = file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as e:
        raise UserError(f"there is no file {text}", fix=_FIX) from e
    if file.suffix == ".json":
        return _by_name(_from_json(kept, text), text)
    yaml = late("yaml", extra="dvc")
    try:
        return _by_name(yaml.safe_load(kept), text)
    except yaml.YAMLError as e:
        raise UserError(f"{text} is no YAML: {' '.join(str(e).split())}", fix=_FIX) from e


def _from_json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as e:
        raise UserError(f"{where} is no JSON: {e}", fix=_FIX) from e


def _by_name(read: object, where: str) -> dict[str, object]:
    if not isinstance(read, dict):
        raise UserError(f"{where} has no parameters by name", fix=_FIX)
    return cast("dict[str, object]", read)


def typed(value: object, declared: object, where: str) -> object:
    """Return the value as the declared type; text is read the way a person writes it.

    Raises:
        ProjectError: it is no value of that type.
    """
    if declared is None or declared is Any or not isinstance(declared, type):
        return _json_or_text(value)
    if isinstance(value, str) and declared is not str:
        return _read(value, declared, where)
    if declared is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, declared) or (isinstance(value, bool) and declared is not bool):
        raise _wrong(value, declared, where)
    return value


def _read(text: str, declared: type, where: str) -> object:
    try:
        if declared is bool:
            return _TRUTH[text.lower()]
        if declared in (int, float):
            return declared(text)
        value = json.loads(text)
    except (ValueError, KeyError) as e:
        raise _wrong(text, declared, where) from e
    if not isinstance(value, declared):
        raise _wrong(text, declared, where)
    return value


def _json_or_text(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


_WORDS: dict[type, tuple[str, str]] = {
    int: ("a whole number", "3"),
    float: ("a number", "0.3"),
    bool: ("true or false", "true"),
    str: ("text", '"north"'),
    list: ("a list", "[1, 2]"),
    dict: ("an object of JSON", '{"a": 1}'),
}


def _wrong(value: object, declared: type, where: str) -> ProjectError:
    kind, example = _WORDS.get(declared, (f"a {declared.__name__}", "JSON"))
    return ProjectError(
        f"{value!r} is not {kind}", where=where, fix=f"give it like this: {example}"
    )
