"""What a skops file says of a model, read without skops, which brings all of scikit-learn."""

from __future__ import annotations

import json
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

FILE = "schema.json"  # in the zip file
Schema = dict[str, Any]


def schema_of(file: IO[bytes]) -> Schema:
    """Return the schema of a skops file.

    Raises:
        ValueError: it is none.
    """
    try:
        with ZipFile(file) as zipped:
            schema: Schema = json.loads(zipped.read(FILE))
            return schema
    except (BadZipFile, KeyError) as e:
        raise ValueError("not a model that skops wrote") from e


def nodes_of(node: Any) -> list[Schema]:
    """Return the nodes of a schema, the outer before the inner, in its order."""
    found: list[Schema] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("__loader__"), str):
                found.append(one)
            waiting.extend(reversed(one.values()))
        elif isinstance(one, list):
            waiting.extend(reversed(one))
    return found


def named_types(nodes: list[Schema]) -> set[str]:
    """Return "module.name" of every class and function that nodes name."""
    return {f"{node['__module__']}.{node['__class__']}" for node in nodes}
