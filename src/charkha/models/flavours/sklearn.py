"""scikit-learn estimators and pipelines, stored as skops."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from charkha.errors import DataError
from charkha.models.flavours import stored
from charkha.models.flavours.answers import labels, numbers, one_per_row
from charkha.models.predictions import Predictions

if TYPE_CHECKING:
    from charkha.models.flavours.port import Classes, Flavour

_ALWAYS = ("numpy", "pandas", "scipy", "skops", "sklearn")
_OTHERS = {"lightgbm", "xgboost"}  # whose estimators may stand in a scikit-learn pipeline


class SklearnFlavour:
    """The flavour of what follows scikit-learn's estimator interface."""

    name = "sklearn"

    def columns(self, model: object) -> list[str] | None:
        names = getattr(model, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    def classes(self, model: object) -> Classes | None:
        found = getattr(model, "classes_", None)
        return None if found is None else tuple(np.asarray(found).tolist())

    def save(self, model: object, folder: Path, *, allow_pickle: bool) -> str:
        return stored.save(model, folder, allow_pickle=allow_pickle)

    def load(self, file: Path, *, allow_pickle: bool) -> object:
        return stored.load(file, allow_pickle=allow_pickle)

    def predict(self, model: Any, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        table = rows.to_numpy() if _fitted_on_arrays(model) else rows
        # one thread: forests add up their trees in the order in which threads end, and the last
        # digit of a prediction would differ from run to run
        with joblib.parallel_config("sequential"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
            try:
                said = model.predict(table)
                shares = model.predict_proba(table) if _has_shares(model, classes) else None
            except (ValueError, TypeError) as e:
                raise DataError(f"the model refuses these rows: {e}") from e
        if classes is None:
            return Predictions(values=numbers(one_per_row(said, len(rows))))
        return Predictions(
            values=labels(one_per_row(said, len(rows))), probabilities=shares, classes=classes
        )

    def packages(self, model: object) -> list[str]:
        inside = {type(part).__module__.partition(".")[0] for part in _parts(model, 0)}
        return sorted({*_ALWAYS, *(inside & _OTHERS)})


def _has_shares(model: object, classes: Classes | None) -> bool:
    return classes is not None and hasattr(model, "predict_proba")


def _fitted_on_arrays(model: object) -> bool:
    """Tell whether the columns had no names when the model was fitted."""
    return hasattr(model, "n_features_in_") and not hasattr(model, "feature_names_in_")


def _parts(model: object, depth: int) -> Iterator[object]:
    """Yield the estimator and those inside of it (pipelines, column transformers, ensembles)."""
    yield model
    if depth > 5 or inspect.isclass(model) or not hasattr(model, "get_params"):
        return
    for part in model.get_params(deep=False).values():
        inner = part if isinstance(part, list | tuple) else [part]
        for item in inner:
            for leaf in item if isinstance(item, list | tuple) else [item]:
                yield from _parts(leaf, depth + 1)


if TYPE_CHECKING:
    _: Flavour = SklearnFlavour()
