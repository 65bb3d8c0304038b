"""LightGBM boosters and estimators, stored as LightGBM's own text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

from charkha.errors import UserError
from charkha.models.flavours.answers import most_likely, numbers, one_per_row
from charkha.models.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from charkha.models.flavours.port import Classes, Flavour

FILE = "model.txt"


class LightgbmFlavour:
    """The flavour of `lightgbm.Booster` and of the LGBM estimators."""

    name = "lightgbm"

    def columns(self, model: object) -> list[str] | None:
        names = booster(model).feature_name()
        unnamed = names == [f"Column_{i}" for i in range(len(names))]
        return None if unnamed else list(names)

    def classes(self, model: object) -> Classes | None:
        if (found := getattr(model, "classes_", None)) is not None:
            return tuple(np.asarray(found).tolist())
        objective = booster(model).dump_model(num_iteration=1)["objective"].split()[0]
        if objective == "binary":
            return (0, 1)
        if objective.startswith("multiclass"):
            return tuple(range(booster(model).num_model_per_iteration()))
        return None

    def save(self, model: object, folder: Path, *, allow_pickle: bool) -> str:
        booster(model).save_model(folder / FILE)
        return FILE

    def load(self, file: Path, *, allow_pickle: bool) -> object:
        return lightgbm.Booster(model_file=file)

    def predict(self, model: object, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        said = np.asarray(booster(model).predict(rows, num_threads=1))
        if classes is not None:
            return most_likely(said, classes, len(rows))
        return Predictions(values=numbers(one_per_row(said, len(rows))))

    def packages(self, model: object) -> list[str]:
        return ["lightgbm", "numpy", "pandas"]


def booster(model: Any) -> lightgbm.Booster:
    """Return the booster inside.

    Raises:
        UserError: the estimator is not fitted.
    """
    if isinstance(model, lightgbm.Booster):
        return model
    try:
        inside: lightgbm.Booster = model.booster_
    except (AttributeError, lightgbm.basic.LightGBMError) as e:
        raise UserError(f"{type(model).__name__} is not fitted", fix="call fit() first") from e
    return inside


if TYPE_CHECKING:
    _: Flavour = LightgbmFlavour()
