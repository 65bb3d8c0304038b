"""Values of JSON as Python writes them, as a formatter would have it: for files that are read again."""

from __future__ import annotations

from collections.abc import Mapping


def literal(value: object) -> str:
    """Return a value as an expression of Python, on one line."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def quoted(text: str) -> str:
    """Return a text in double quotes, unless it has some itself."""
    written = repr(text)
    if written.startswith("'") and '"' not in text:
        return f'"{written[1:-1]}"'
    return written
