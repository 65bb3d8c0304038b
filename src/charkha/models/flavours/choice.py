"""Which flavour a model is of, told by its class without importing the libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.errors import UserError
from charkha.plugins import find

if TYPE_CHECKING:
    from charkha.models.flavours.port import Flavour

_BY_PACKAGE = {"lightgbm": "lightgbm", "xgboost": "xgboost", "sklearn": "sklearn"}


def flavour_of(model: object) -> Flavour:
    """Return the flavour that knows `model`.

    A class that derives from several libraries' classes (LightGBM's estimators derive from
    scikit-learn's) belongs to the nearest one. Whatever else has a `predict` is a pyfunc.

    Raises:
        UserError: it is no model.
        MissingExtra: its library's extra is not installed.
    """
    for kind in type(model).__mro__:
        if name := _BY_PACKAGE.get(kind.__module__.partition(".")[0]):
            return flavour(name)
    if callable(getattr(model, "predict", None)):
        return flavour("pyfunc")
    raise UserError(
        f"a {type(model).__name__} is no model: it has no predict(rows)",
        fix="give register() the fitted model, not what it predicts",
    )


def flavour(name: str) -> Flavour:
    """Return the flavour called `name`."""
    made: Flavour = find("flavours", name)()
    return made
