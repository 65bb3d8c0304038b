"""Leaf modules imported when they are needed; a missing library says its install line."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from charkha.errors import MissingExtra


def late(module: str, *, extra: str) -> ModuleType:
    """Import `module`, whose libraries come with `charkha[extra]`.

    Raises:
        MissingExtra: one of its libraries is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("charkha"):
            raise
        raise MissingExtra(e.name or module, extra) from e
