"""Ask a packaged candidate and the champion for the same held-out rows, and judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charkha.errors import DataError
from charkha.models.evidence import Scored, measure
from charkha.models.gate import Gate
from charkha.models.metrics import default, metric
from charkha.models.package import ModelPackage, read_package
from charkha.models.rows import as_table, split_target
from charkha.models.verdict import Case, Champion, Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion, with the folder of its package."""

    version: str
    package: str  # digest
    folder: Path


def judge_package(
    folder: Path,
    *,
    test: object,
    train: object,
    incumbent: Incumbent | None,
    rules: Sequence[Gate],
    allow_pickle: bool,
) -> Verdict:
    """Judge the package in `folder` on `test`.

    Args:
        folder: of the candidate.
        test: held-out rows with the target, a DataFrame.
        train: the rows it was fitted on; None: nothing is said of over- and underfitting.
        incumbent: None for the first model.
        rules: all have to hold; none: better than the champion by the task's usual metric.
        allow_pickle: whether a package may hold a pickle.

    Raises:
        DataError: the rows do not fit the candidate or the champion, or a metric is undefined on them.
        UserError: a rule does not fit the task.
    """
    candidate = read_package(folder, allow_pickle=allow_pickle)
    about = candidate.about
    chosen = list(rules) or [Gate(default(about.task), better_than="champion")]
    for rule in chosen:
        metric(rule.metric, about.task)
    held_out = _scored(candidate, test, "test")
    trained = _scored(candidate, train, "train") if train is not None else None
    reigning = _reigning(incumbent, candidate, test, held_out, allow_pickle=allow_pickle)
    measured = {
        what: measure(rule, held_out, reigning, trained)
        for what, rule in {rule.measuring: rule for rule in chosen}.items()
    }
    case = Case(
        model=about.name,
        target=about.target,
        rows=len(held_out.truth),
        metrics=about.metrics,
        champion=_named(incumbent),
        same=incumbent is not None and _same(folder, incumbent.folder),
    )
    return judge(case, [(rule, measured[rule.measuring]) for rule in chosen])


def _named(incumbent: Incumbent | None) -> Champion | None:
    if incumbent is None:
        return None
    return Champion(version=incumbent.version, package=incumbent.package)


def _scored(package: ModelPackage, table: object, what: str) -> Scored:
    about = package.about
    rows = split_target(table, what, about.signature.inputs, about.target, about.task)
    return Scored(truth=rows.truth, predicted=package.answer(rows.inputs))


def _reigning(
    incumbent: Incumbent | None,
    candidate: ModelPackage,
    test: object,
    held_out: Scored,
    *,
    allow_pickle: bool,
) -> Scored | None:
    """Ask the champion for the rows that the candidate is judged on.

    Raises:
        DataError: it does another task, or takes columns that these rows lack.
    """
    if incumbent is None:
        return None
    champion = read_package(incumbent.folder, allow_pickle=allow_pickle)
    who = f"the champion (version {incumbent.version})"
    if champion.about.task != candidate.about.task:
        raise DataError(
            f"{who} does {champion.about.task} and the candidate {candidate.about.task}",
            fix="register it under another name, or with a gate without better_than",
        )
    try:
        said = champion.answer(as_table(test, "test"))
    except DataError as e:
        raise DataError(
            f"{who} cannot be asked for the test rows: {e.what}",
            fix="leave its columns in the rows that you give to register(): a model ignores those "
            "that it does not take; or use a gate without better_than",
        ) from e
    return Scored(truth=held_out.truth, predicted=said)


def _same(folder: Path, other: Path) -> bool:
    """Tell whether two packages are the same bytes."""
    names = _files(folder)
    return names == _files(other) and all(
        (folder / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def _files(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
