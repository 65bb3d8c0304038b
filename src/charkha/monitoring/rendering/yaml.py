"""Plain data as YAML that people read: a subset that every YAML reader takes for the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

# Such a text needs no quotes: it cannot be taken for a number, a moment, true, null or anything else.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_ ./@$=+%()~-]*[A-Za-z0-9_./)%]|[A-Za-z_/]")
_TAKEN = re.compile(r"(?i)(true|false|yes|no|on|off|null|y|n|\.nan|\.inf)")


def to_yaml(value: object) -> str:
    """Return the text of a document: dicts, lists, texts, numbers, booleans and None."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: object, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _entry(f"{indent}{_scalar(str(key))}:", inner, depth)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for inner in value:
            first, *more = _lines(inner, depth + 1) if _is_block(inner) else [_scalar(inner)]
            yield f"{indent}- {first.lstrip()}"
            yield from more
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(head: str, inner: object, depth: int) -> Iterator[str]:
    if _is_block(inner):
        yield head
        yield from _lines(inner, depth + 1)
    elif isinstance(inner, str) and "\n" in inner and inner == inner.strip():
        yield f"{head} |-"
        yield from ("  " * (depth + 1) + line if line else "" for line in inner.split("\n"))
    else:
        yield f"{head} {_scalar(inner)}"


def _is_block(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _TAKEN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML
