"""What a model can be measured by: names, direction and units; the arithmetic is in scores.py.

This table stands apart from the arithmetic so that a pipeline can name a metric, and be told of a
wrong name, without importing NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, NamedTuple

from charkha.errors import UserError

Task = Literal["regression", "classification"]
TASKS: tuple[Task, ...] = ("regression", "classification")


class Metric(NamedTuple):
    """A metric as it is talked about."""

    name: str
    task: Task
    better: Literal["lower", "higher"]
    unit: Literal["target", "target²", ""]  # "" has none: a share, a ratio, nats
    needs: Literal["values", "probabilities"]

    def of(self, target: str) -> str:
        """Return the metric's name with what it is measured in: "rmse of Sale_Price"."""
        square = " squared" if self.unit == "target²" else ""
        return f"{self.name} of {target}{square}" if self.unit else self.name

    def improvement(self, candidate: float, other: float) -> float:
        """Return by how much `candidate` is better than `other`; negative where it is worse."""
        return other - candidate if self.better == "lower" else candidate - other


_R, _C = TASKS
METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("mae", _R, "lower", "target", "values"),
        Metric("mse", _R, "lower", "target²", "values"),
        Metric("rmse", _R, "lower", "target", "values"),
        Metric("r2", _R, "higher", "", "values"),
        Metric("accuracy", _C, "higher", "", "values"),
        # two classes: of the second in sorted order; more: the plain mean over the classes
        Metric("precision", _C, "higher", "", "values"),
        Metric("recall", _C, "higher", "", "values"),
        Metric("f1", _C, "higher", "", "values"),
        # over all classes even when there are two, each counted alike …
        Metric("precision_macro", _C, "higher", "", "values"),
        Metric("recall_macro", _C, "higher", "", "values"),
        Metric("f1_macro", _C, "higher", "", "values"),
        # … or by its number of rows
        Metric("precision_weighted", _C, "higher", "", "values"),
        Metric("recall_weighted", _C, "higher", "", "values"),
        Metric("f1_weighted", _C, "higher", "", "values"),
        # two classes: area under the ROC curve; more: one against the rest, plain mean
        Metric("auc", _C, "higher", "", "probabilities"),
        Metric("log_loss", _C, "lower", "", "probabilities"),
    )
}
SHOWN: dict[Task, tuple[str, ...]] = {  # where nobody chose
    "regression": ("rmse", "mae", "mse", "r2"),
    "classification": ("accuracy", "precision", "recall", "f1", "auc", "log_loss"),
}


def metric(name: str, task: Task | None = None) -> Metric:
    """Return the metric called `name`.

    Raises:
        UserError: there is none of that name, or it does not fit the task.
    """
    if name not in METRICS:
        close = get_close_matches(name.lower(), METRICS, n=1)
        known = f"use one of: {', '.join(_names(task))}"
        raise UserError(
            f"no metric is called {name!r}", fix=f"did you mean {close[0]!r}?" if close else known
        )
    found = METRICS[name]
    if task is not None and found.task != task:
        raise UserError(
            f"{name} measures {found.task}, and this model does {task}",
            fix=f"use one of: {', '.join(_names(task))}",
        )
    return found


def default(task: Task) -> str:
    """Return the metric that a gate asks for where the project names none."""
    return SHOWN[task][0]


def _names(task: Task | None) -> Iterable[str]:
    return (name for name, m in METRICS.items() if task is None or m.task == task)
