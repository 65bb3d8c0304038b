"""What MLflow runs for a project's own model: a copy of this file lies with the model.

It imports nothing of Charkha, so that a version can be loaded where only MLflow is.
"""

from __future__ import annotations

import inspect
import pickle
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
import skops.io
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class StoredModel(PythonModel):
    """Loads the model from its own file and asks it."""

    def load_context(self, context: Any) -> None:
        """Load the file; its class comes with the model's code."""
        file = Path(context.artifacts["model"])
        if file.suffix == ".skops":
            # the list of types is the model's own: who loads a model trusts who made it
            trusted = skops.io.get_untrusted_types(file=file)
            self._model = _put_together(skops.io.load(file, trusted=trusted))
        else:
            self._model = pickle.loads(file.read_bytes())  # noqa: S301  # the project allowed it

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Return what the model says to each row."""
        if "context" in inspect.signature(self._model.predict).parameters:
            return self._model.predict(context, model_input)
        return self._model.predict(model_input)


def _put_together(parts: dict[str, Any]) -> Any:
    """Return the model of which charkha.models.flavours.pyfunc stored class name and attributes."""
    module, _, name = parts["class"].partition(":")
    kind = attrgetter(name)(import_module(module))
    model = object.__new__(kind)
    vars(model).update(parts["attributes"])
    return model


set_model(StoredModel())
