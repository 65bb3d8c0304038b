"""What a package is made of: what its caller wishes, and the stored model with its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from charkha.models.flavours.port import Classes, Flavour
from charkha.models.metrics import Task
from charkha.models.predictions import Predictions
from charkha.models.rows import Rows
from charkha.models.signature import Column


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a caller asks of a package."""

    name: str
    target: str
    task: Task | None = None  # None: what the model says
    metrics: Sequence[str] | None = None  # None: all that are usual for the task
    own_scores: Mapping[str, float] = field(default_factory=dict)  # measured by the project itself
    learning_curve: bool | None = None  # None: where it is cheap
    allow_pickle: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The model as it was read back, and what it said of the rows whose truth is known."""

    flavour: Flavour
    model: object
    classes: Classes | None
    task: Task
    columns: tuple[Column, ...]
    rows: dict[str, Rows]  # "test", and "train" where there are such
    said: dict[str, Predictions]  # for the same

    @property
    def sample(self) -> str:
        """The rows that stand for what the model has seen."""
        return "train" if "train" in self.rows else "test"

    def ask(self, inputs: pd.DataFrame) -> Predictions:
        """Ask the stored model."""
        return self.flavour.predict(self.model, inputs, self.classes)
