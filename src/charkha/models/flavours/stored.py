"""Python objects as files: skops, and pickle only where the project allows it."""

from __future__ import annotations

from pathlib import Path

from charkha.errors import Damaged, UserError
from charkha.plugins import find

SKOPS, PICKLE = "model.skops", "model.pkl"


def save(model: object, folder: Path, *, allow_pickle: bool) -> str:
    """Write `model` in the canonical form of the skops codec, which runs no code when read.

    Raises:
        UserError: skops cannot store it and pickle is not allowed.
    """
    try:
        data = find("codecs", "skops")().encode(model)
    except UserError as e:
        if allow_pickle:
            return save_pickle(model, folder)
        raise UserError(
            f"the model cannot be stored without pickle: {e.what}",
            fix="make it of objects that hold plain data, or set allow_pickle = true",
        ) from e
    (folder / SKOPS).write_bytes(data)
    return SKOPS


def save_pickle(model: object, folder: Path) -> str:
    """Write `model` as a pickle; the caller has seen that the project allows it."""
    (folder / PICKLE).write_bytes(find("codecs", "pickle")().encode(model))
    return PICKLE


def load(file: Path, *, allow_pickle: bool) -> object:
    """Return what `save` wrote.

    Raises:
        UserError: it is a pickle, and those are not allowed here.
        Damaged: these are no bytes of a model.
    """
    pickled = file.name == PICKLE
    if pickled and not allow_pickle:
        raise UserError(
            f"{file.name} is a pickle, which can run any code when it is loaded",
            fix="set allow_pickle = true in charkha.toml if you trust who trained it",
        )
    try:
        return find("codecs", "pickle" if pickled else "skops")().decode(file.read_bytes(), None)
    except ValueError as e:
        raise Damaged(f"{file} holds no model: {e}", key=str(file)) from e
