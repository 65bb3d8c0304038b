"""Gate: one rule that a model has to pass before it becomes a version that may take over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Literal

from charkha.errors import UserError
from charkha.models.metrics import Task, default, metric

if TYPE_CHECKING:
    from charkha.project import GateSettings


@dataclass(frozen=True)
class Gate:
    """A rule on one metric, measured on held-out rows.

    Args:
        metric: a name of `charkha.models.metrics`.
        at_most: the score may not be above this (rmse, log_loss, …), in the metric's unit.
        at_least: the score may not be below this (r2, accuracy, …).
        better_than: "champion" compares with the champion on the same rows.
        by: the lower end of the improvement's interval has to lie above this, in the metric's
            unit. 0 asks for an improvement that is no accident; a negative number accepts a model
            that is shown to be at most that much worse.
        confidence: of the intervals, between 0 and 1.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; equal seeds give equal intervals.

    Raises:
        UserError: the rule contradicts itself or its metric.
    """

    metric: str
    _: KW_ONLY
    at_most: float | None = None
    at_least: float | None = None
    better_than: Literal["champion"] | None = None
    by: float = 0.0
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        better = metric(self.metric).better
        wrong, right = ("at_least", "at_most") if better == "lower" else ("at_most", "at_least")
        if getattr(self, wrong) is not None:
            raise UserError(
                f"{self.where}: {wrong} would refuse good models, for {better} is better",
                fix=f"use {right}={getattr(self, wrong):g}",
            )
        if self.better_than not in (None, "champion"):
            raise UserError(
                f"{self.where}: better_than={self.better_than!r} is not known",
                fix='use better_than="champion"',
            )
        if self.at_most is None and self.at_least is None and self.better_than is None:
            raise UserError(
                f"{self.where} asks for nothing", fix=f'add {right}=… or better_than="champion"'
            )
        if self.by and self.better_than is None:
            raise UserError(
                f"{self.where}: by={self.by:g} compares with nobody",
                fix='add better_than="champion"',
            )
        self._check_bootstrap()

    def _check_bootstrap(self) -> None:
        if not 0 < self.confidence < 1:
            raise UserError(
                f"{self.where}: confidence={self.confidence:g} is no probability", fix="use 0.95"
            )
        if self.resamples < 100:
            raise UserError(
                f"{self.where}: {self.resamples} resamples make no interval", fix="use 2000"
            )

    @property
    def where(self) -> str:
        """How the rule is called in a message."""
        return f"Gate({self.metric!r})"

    @property
    def measuring(self) -> tuple[str, float, int, int]:
        """What is measured for it; rules that ask for the same share it."""
        return self.metric, self.confidence, self.resamples, self.seed

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def read_rules(rules: Iterable[dict[str, object]]) -> list[Gate]:
    """Return the rules that `Gate.as_json` wrote."""
    return [Gate(**rule) for rule in rules]  # type: ignore[arg-type]


def choose_rules(
    given: Gate | Iterable[Gate] | None, settings: Iterable[GateSettings], task: Task | None
) -> list[Gate]:
    """Return the rules of a model: those given in code, else the project's, else the champion's.

    Where nobody says anything a later version has to be better than the champion; that needs the
    task, and without a task the rule is left open (an empty list) until the model is seen.

    Raises:
        UserError: a rule does not fit the task.
    """
    if isinstance(given, Gate):
        rules = [given]
    elif given is not None:
        rules = list(given)
    else:
        rules = [
            Gate(
                s.metric, at_most=s.at_most, at_least=s.at_least, better_than=s.better_than, by=s.by
            )
            for s in settings
        ]
    if not rules and task is not None:
        rules = [Gate(default(task), better_than="champion")]
    for rule in rules:
        metric(rule.metric, task)
    return rules
