"""`register`: package a model and let the gate judge it, as two steps of a pipeline.

The two steps make artifacts and know no registry: the package becomes a model version when the
run is tracked. This module is imported wherever a pipeline is, so what needs libraries is late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from charkha.errors import UserError
from charkha.models.champion import Champion
from charkha.models.gate import Gate, choose_rules, read_rules
from charkha.models.metrics import Task, metric
from charkha.pipeline.steps import current_project, step
from charkha.pipeline.values import Dir


def register(
    model: object,
    *,
    test: object,
    train: object = None,
    target: str | None = None,
    metrics: object = None,
    name: str | None = None,
    task: Task | None = None,
    gate: Gate | Iterable[Gate] | None = None,
    learning_curve: bool | None = None,
) -> dict[str, object]:
    """Package `model`, judge it, and make it a version of `name` when the run is tracked.

    In a pipeline this traces the steps `package` and `gate`, and what it returns stands for the
    verdict. Elsewhere both run at once, there is no champion, and nothing is registered.

    Args:
        model: fitted: scikit-learn, LightGBM, XGBoost, or anything with predict(rows).
        test: held-out rows with the target; model and champion are judged on them.
        train: the rows that the model was fitted on, with the target. They give the signature,
            the reference sample and the warnings of over- and underfitting.
        target: the column that is predicted; `[model] target` by default.
        metrics: scores of your own, {name: number}, perhaps of a step; or names of those of
            charkha.models.metrics to show. All that are usual for the task by default.
        name: in the registry; `[model] name` by default.
        task: what the model does; `[model] task`, or what the model says, by default.
        gate: rules in place of the project's `[[gate]]`.
        learning_curve: whether the card gets one, which fits about once more; where it is cheap by
            default.

    Raises:
        UserError: there is no target, a metric is unknown, or a rule contradicts itself.
    """
    project = current_project()
    task = task or (project.model.task if project else None)
    target = target or (project.model.target if project else None)
    if not target:
        raise UserError(
            "register() does not know which column the model predicts",
            fix='register(…, target="…"), or target = "…" under [model] in charkha.toml',
        )
    _check_names(metrics, task)
    rules = [r.as_json() for r in choose_rules(gate, project.gate if project else (), task)]
    name = name or (project.model.name if project else "model")
    allow_pickle = project.allow_pickle if project else False
    package = package_model(
        model=model,
        test=test,
        train=train,
        target=target,
        metrics=metrics,
        name=name,
        task=task,
        learning_curve=learning_curve,
        allow_pickle=allow_pickle,
    )
    return judge(
        package=cast("Path", package),
        test=test,
        train=train,
        champion=Champion(name) if project else None,
        rules=rules,
        allow_pickle=allow_pickle,
    )


@step(name="package", outputs=("package",))
def package_model(
    model: object,
    test: object,
    train: object,
    target: str,
    metrics: object,
    name: str,
    task: Task | None,
    learning_curve: bool | None,
    allow_pickle: bool,
) -> Dir:
    """Return the package of a model, a folder as charkha.models.package describes it."""
    wish = import_module("charkha.models.asked").Wish(
        name=name,
        target=target,
        task=task,
        metrics=metrics if isinstance(metrics, list | tuple) else None,
        own_scores=metrics if isinstance(metrics, dict) else {},
        learning_curve=learning_curve,
        allow_pickle=allow_pickle,
    )
    made: Dir = import_module("charkha.models.build").make_package(model, test, train, wish)
    return made


@step(name="gate", outputs=("verdict",))
def judge(
    package: Path,
    test: object,
    train: object,
    champion: object,
    rules: list[dict[str, object]],
    allow_pickle: bool,
) -> dict[str, object]:
    """Return the verdict on a package (charkha.models.verdict.Verdict as JSON)."""
    judging = import_module("charkha.models.judging")
    incumbent = None
    if isinstance(champion, Mapping):
        incumbent = judging.Incumbent(
            version=str(champion["version"] or "deleted"),
            package=str(champion["package"]),
            folder=Path(champion["folder"]),
        )
    verdict = judging.judge_package(
        Path(package),
        test=test,
        train=train,
        incumbent=incumbent,
        rules=read_rules(rules),
        allow_pickle=allow_pickle,
    )
    said: dict[str, object] = verdict.as_json()
    return said


def _check_names(metrics: object, task: Task | None) -> None:
    """Look at names of metrics before anything runs.

    Raises:
        UserError: one is unknown or of another task, or this is neither names nor scores.
    """
    if isinstance(metrics, str):
        raise UserError(
            f"metrics={metrics!r} is a text", fix=f"metrics=[{metrics!r}], a list of names"
        )
    if isinstance(metrics, list | tuple):
        for name in metrics:
            metric(str(name), task)
