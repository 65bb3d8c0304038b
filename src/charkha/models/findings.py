"""What the card shows besides scores: importance, learning curve, and their plots as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from charkha.models import plots
from charkha.models.asked import Asked, Wish
from charkha.models.card import Findings
from charkha.models.diagnostics import (
    CHEAP_CELLS,
    LearningCurve,
    chosen,
    importance,
    learning_curve,
    measure_by,
)

_MOST_CLASSES = 20  # in a confusion matrix that can still be read


def find_out(
    model: object, asked: Asked, wish: Wish, tables: dict[str, pd.DataFrame], folder: Path
) -> Findings:
    """Measure what the card tells, and write its plots below `folder`.

    Args:
        model: as it was fitted, to be fitted again for the learning curve.
        asked: the stored model and its answers.
        wish: whether there is to be a learning curve.
        tables: "test" and perhaps "train", as they were given.
        folder: the package.
    """
    by = measure_by(asked.task, asked.said["test"])
    test = asked.rows["test"]
    matters = importance(asked.ask, test.inputs, test.truth, by)
    reason = _no_curve(model, asked, wish)
    curve = None if reason else _curve(model, asked, tables, by)
    drawn = _answers(asked, wish.target)
    if chosen(matters, 1):
        drawn["plots/importance.png"] = (plots.importances(matters), "What the model looks at")
    if curve is not None:
        drawn["plots/learning_curve.png"] = (plots.curve(curve), "Learning curve")
    for file, (png, _) in drawn.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(png)
    return Findings(
        importance=matters,
        learning_curve=curve,
        no_curve_because=reason or "the model cannot be fitted again on fewer rows",
        plots={file: caption for file, (_, caption) in drawn.items()},
    )


def _answers(asked: Asked, target: str) -> dict[str, tuple[bytes, str]]:
    """Draw what the model said of the held-out rows against what was true."""
    truth, said = asked.rows["test"].truth, asked.said["test"]
    if asked.classes is None:
        png = plots.residuals(truth, said.values.astype(np.float64), target)
        return {"plots/residuals.png": (png, "Residuals on the held-out rows")}
    labels = sorted({*truth.tolist(), *said.values.tolist(), *asked.classes})
    if len(labels) > _MOST_CLASSES:
        return {}
    png = plots.confusion(truth, said.values, labels)
    return {"plots/confusion.png": (png, "Confusion on the held-out rows")}


def _no_curve(model: object, asked: Asked, wish: Wish) -> str | None:
    """Return why there is to be no learning curve; None if there is."""
    if "train" not in asked.rows:
        return "register() was not given the training rows"
    if not (hasattr(model, "fit") and hasattr(model, "get_params")):
        return f"a {type(model).__name__} cannot be fitted again"
    if wish.learning_curve is not None:
        return None if wish.learning_curve else "it was not asked for"
    cells = len(asked.rows["train"].truth) * len(asked.columns)
    if cells <= CHEAP_CELLS:
        return None
    return (
        f"{cells:,} training values are more than the {CHEAP_CELLS:,} for which it is made "
        "unasked; register(…, learning_curve=True) fits about once more"
    )


def _curve(
    model: object, asked: Asked, tables: dict[str, pd.DataFrame], by: str
) -> LearningCurve | None:
    names = [c.name for c in asked.columns]
    parts = {
        part: (tables[part][names].reset_index(drop=True), asked.rows[part].truth)
        for part in ("train", "test")
    }
    return learning_curve(model, asked.flavour, asked.classes, parts["train"], parts["test"], by)
