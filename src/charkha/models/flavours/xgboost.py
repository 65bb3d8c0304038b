"""XGBoost boosters and estimators, stored as XGBoost's own UBJSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

from charkha.errors import UserError
from charkha.models.flavours.answers import most_likely, numbers, one_per_row
from charkha.models.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from charkha.models.flavours.port import Classes, Flavour

FILE = "model.ubj"


class XgboostFlavour:
    """The flavour of `xgboost.Booster` and of the XGB estimators."""

    name = "xgboost"

    def columns(self, model: object) -> list[str] | None:
        names = booster(model).feature_names
        return None if names is None else list(names)

    def classes(self, model: object) -> Classes | None:
        found = getattr(model, "classes_", None)
        if found is not None and xgboost.XGBClassifier in type(model).__mro__:
            return tuple(np.asarray(found).tolist())
        learner = json.loads(booster(model).save_config())["learner"]
        objective = learner["objective"]["name"]
        if objective == "binary:logistic":
            return (0, 1)
        if objective.startswith("multi:"):
            return tuple(range(int(learner["learner_model_param"]["num_class"])))
        return None

    def save(self, model: object, folder: Path, *, allow_pickle: bool) -> str:
        booster(model).save_model(folder / FILE)
        return FILE

    def load(self, file: Path, *, allow_pickle: bool) -> object:
        loaded = xgboost.Booster()
        loaded.load_model(file)
        return loaded

    def predict(self, model: object, rows: pd.DataFrame, classes: Classes | None) -> Predictions:
        asked = booster(model)
        table = xgboost.DMatrix(
            rows if asked.feature_names else rows.to_numpy(), enable_categorical=True, nthread=1
        )
        said = asked.predict(table, iteration_range=(0, _best(asked)))
        if classes is not None:
            return most_likely(said, classes, len(rows))
        return Predictions(values=numbers(one_per_row(said, len(rows))))

    def packages(self, model: object) -> list[str]:
        return ["numpy", "pandas", "xgboost"]


def booster(model: Any) -> xgboost.Booster:
    """Return the booster inside.

    Raises:
        UserError: the estimator is not fitted.
    """
    if isinstance(model, xgboost.Booster):
        return model
    try:
        inside: xgboost.Booster = model.get_booster()
    except (AttributeError, xgboost.core.XGBoostError, ValueError) as e:
        raise UserError(f"{type(model).__name__} is not fitted", fix="call fit() first") from e
    return inside


def _best(asked: xgboost.Booster) -> int:
    """Return how many rounds count: up to the best one after early stopping, else all (0)."""
    best = asked.attr("best_iteration")
    return int(best) + 1 if best is not None else 0


if TYPE_CHECKING:
    _: Flavour = XgboostFlavour()
