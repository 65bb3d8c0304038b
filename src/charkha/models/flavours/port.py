"""Flavour: tell a kind of model's columns and classes, save it, load it, predict with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from charkha.models.predictions import Predictions

Classes = tuple[object, ...]


class Flavour(Protocol):
    """One library's way with its models."""

    name: str
    """What package.json says, and what `plugins.find("flavours", name)` finds."""

    def columns(self, model: object) -> list[str] | None:
        """Return the columns on which the model was fitted, in order; None if it does not know."""
        ...

    def classes(self, model: object) -> Classes | None:
        """Return the labels that the model tells apart, sorted; None if it predicts numbers."""
        ...

    def save(self, model: object, folder: Path, *, allow_pickle: bool) -> str:
        """Write the model into `folder`, equal models as equal bytes; return the file's name.

        Raises:
            UserError: it cannot be stored in this flavour's own form, and pickle is not allowed.
        """
        ...

    def load(self, file: Path, *, allow_pickle: bool) -> object:
        """Return the model that `save` wrote.

        Raises:
            UserError: the file holds what this process does not trust.
        """
        ...

    def predict(self, model: object, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        """Return an answer for each row; the same bits for the same rows on one machine.

        Args:
            model: as fitted, or as `load` returned it.
            rows: the columns of the signature, in its order.
            classes: what `classes` returned when the model was packaged.

        Raises:
            DataError: the model refuses these rows, or answers with something else than a value
                for each of them.
        """
        ...

    def packages(self, model: object) -> list[str]:
        """Return the packages, as they are imported, that loading and asking the model needs."""
        ...
