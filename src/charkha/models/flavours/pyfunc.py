"""Any object with `predict(rows)`: a project's own class, or an MLflow PythonModel.

What is stored is the name of its class and its attributes, by skops; reading it back imports the
class, which has to be importable there, and sets the attributes: no code that the file brings, and
no constructor, is run. Attributes that skops cannot keep need `allow_pickle`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charkha.errors import Damaged, UserError
from charkha.models.flavours import stored
from charkha.models.flavours.answers import labels, numbers, one_per_row
from charkha.models.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from charkha.models.flavours.port import Classes, Flavour


class PyfuncFlavour:
    """The flavour of everything that can predict and is of no other flavour.

    `feature_names` and `classes`, where the object has them, say what its columns and labels are.
    """

    name = "pyfunc"

    def columns(self, model: object) -> list[str] | None:
        names = getattr(model, "feature_names", None)
        return None if names is None else [str(name) for name in names]

    def classes(self, model: object) -> Classes | None:
        found = getattr(model, "classes", None)
        return None if found is None else tuple(np.asarray(found).tolist())

    def save(self, model: object, folder: Path, *, allow_pickle: bool) -> str:
        try:
            return stored.save(_taken_apart(model), folder, allow_pickle=False)
        except UserError:
            if not allow_pickle:
                raise
            return stored.save_pickle(model, folder)

    def load(self, file: Path, *, allow_pickle: bool) -> object:
        loaded = stored.load(file, allow_pickle=allow_pickle)
        return loaded if file.name == stored.PICKLE else _put_together(loaded, str(file))

    def predict(self, model: Any, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        # MLflow's PythonModel is asked with a context, which nobody outside of MLflow can give
        context = "context" in inspect.signature(model.predict).parameters
        said = one_per_row(model.predict(None, rows) if context else model.predict(rows), len(rows))
        if classes is None:
            return Predictions(values=numbers(said))
        shares = None
        if hasattr(model, "predict_proba"):
            shares = np.asarray(model.predict_proba(rows), dtype=np.float64)
        return Predictions(values=labels(said), probabilities=shares, classes=classes)

    def packages(self, model: object) -> list[str]:
        return ["numpy", "pandas", "skops"]


def _taken_apart(model: object) -> dict[str, object]:
    """Return the name of the class and the attributes.

    Raises:
        UserError: the class could not be imported by its name, or the object has no attributes.
    """
    kind = type(model)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise UserError(
            f"{kind.__qualname__} is defined where nobody else can import it",
            fix="define the class at the top level of a module of the project",
        )
    if not hasattr(model, "__dict__"):
        raise UserError(
            f"{kind.__qualname__} has no __dict__ that could be stored",
            fix="keep what it has learned in attributes, without __slots__",
        )
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "attributes": dict(vars(model))}


def _put_together(parts: object, where: str) -> object:
    """Return the model of which `_taken_apart` made the parts.

    Raises:
        UserError: its class cannot be imported here.
        Damaged: these are no such parts.
    """
    if not isinstance(parts, dict) or not parts.keys() >= {"class", "attributes"}:
        raise Damaged(f"{where} holds no model of one's own", key=where)
    module, _, name = str(parts["class"]).partition(":")
    try:
        kind = attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as e:
        raise UserError(
            f"the model is a {name} of {module}, which cannot be imported here: {e}",
            fix="load it where the project's code is: in its folder, or with it installed",
        ) from e
    if not isinstance(kind, type) or not callable(getattr(kind, "predict", None)):
        raise Damaged(f"{where}: {parts['class']} is no class that can predict", key=where)
    model: object = object.__new__(kind)
    vars(model).update(parts["attributes"])
    return model


if TYPE_CHECKING:
    _: Flavour = PyfuncFlavour()
