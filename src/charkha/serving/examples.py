"""A version made ready for traffic: loaded, warmed, and held against its recorded examples."""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charkha.errors import CharkhaError, Damaged, Refused
from charkha.models.packaged import package_folder
from charkha.serving.loading import ServedModel, load_package
from charkha.serving.predictors.port import Answers, Rows
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.project import Project
    from charkha.serving.wanted import WantedVariant

# Two labels whose probabilities differ by less are a tie: either may be named. And what another
# machine rounds otherwise may come on top of a difference that was allowed where it was registered.
_TIE = 1e-4
_ROUNDING = 1.1
_laying: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by package
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A version that may take traffic."""

    model: ServedModel
    examples: int  # that it answered as it should; 0: its package has none


class Examples(NamedTuple):
    """What a package has recorded."""

    rows: Rows
    said: Answers
    tolerance: float  # of numbers, or of probabilities


def load_checked(project: Project, model: str, variant: WantedVariant) -> Checked:
    """Load a version from its package, and check it.

    Args:
        project: that has the package.
        model: what the registry calls it.
        variant: which version.

    Raises:
        CharkhaError: that cannot be done, or it answers otherwise than it did.
    """
    what = f"{model}@{variant.version}"
    with _laying[variant.package]:  # a load that nobody waits for any more may be at it still
        folder = package_folder(project, variant.package, what)
    loaded = load_package(folder, variant.version, allow_pickle=project.allow_pickle)
    served = replace(loaded, name=model)  # a version may be registered under another name
    examples = check_examples(folder, served)
    if not examples:
        _log.warning("%s has no recorded examples: it is warmed, and not checked", what)
    return Checked(model=served, examples=examples)


def check_examples(folder: Path, model: ServedModel) -> int:
    """Ask a version for its recorded examples; return how many it answered as it should.

    0 says that its package has none, as it is of format 1. The model was asked all the same, for
    its example rows, together and alone: the first request shall not be the slow one.

    Raises:
        Refused: it answers otherwise than when it was registered, or not at all.
        Damaged: the package's examples cannot be read.
    """
    recorded = read_examples(folder, model)
    rows = model.schema.from_records(model.example) if recorded is None else recorded.rows
    what = f"{model.name} version {model.version}"
    try:
        said = model.predictor.predict(rows)
        for row in rows[:3]:
            model.predictor.predict([row])
    except CharkhaError as e:
        raise Refused(f"{what} refuses its own example rows: {e.what}", fix=_FIX) from e
    if recorded is None:
        return 0
    place, gap = largest_difference(said, recorded, model.described["classes"])
    if gap > recorded.tolerance * _ROUNDING:
        by = "with another label" if gap == inf else f"off by {gap:.3g}"
        raise Refused(
            f"{what} answers its recorded examples otherwise than when it was registered: "
            f"row {place + 1} of {len(rows)} {by}, and {recorded.tolerance:.3g} is allowed",
            fix=_FIX,
        )
    return len(rows)


def read_examples(folder: Path, model: ServedModel) -> Examples | None:
    """Return what the package in a folder has recorded; None if it has nothing.

    Raises:
        Damaged: it cannot be read.
    """
    name = model.described.get("examples")
    if name is None:
        return None
    file = folder / name
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        rows = model.schema.from_values(told["rows"])
        values, shares = list(told["values"]), told["probabilities"]
        tolerance = float(told["tolerance"])
    except (OSError, ValueError, KeyError, TypeError, Problem) as e:
        raise Damaged(f"the recorded examples in {file} cannot be read: {e}", key=str(file)) from e
    return Examples(rows, Answers(values, shares), tolerance)


def largest_difference(
    said: Answers, recorded: Examples, classes: list[object] | None
) -> tuple[int, float]:
    """Return the row that differs most from what was recorded, and by how much.

    By infinity where the label is another one, and no tie.
    """
    own = recorded.said
    if classes is None:
        pairs = zip(said.values, own.values, strict=True)
        gaps = [abs(float(a) - float(b)) for a, b in pairs]  # type: ignore[arg-type]  # numbers
    else:
        gaps = [
            0.0 if a == b or _is_tie(a, b, row, own, classes) else inf
            for row, (a, b) in enumerate(zip(said.values, own.values, strict=True))
        ]
    if said.probabilities is not None and own.probabilities is not None:
        for row, shares in enumerate(zip(said.probabilities, own.probabilities, strict=True)):
            gaps[row] = max(gaps[row], *(abs(a - b) for a, b in zip(*shares, strict=True)))
    worst = max(range(len(gaps)), key=gaps.__getitem__)
    return worst, gaps[worst]


def _is_tie(said: object, own: object, row: int, recorded: Answers, classes: list[object]) -> bool:
    """Whether the model itself finds both labels equally likely."""
    if recorded.probabilities is None or said not in classes or own not in classes:
        return False
    shares = recorded.probabilities[row]
    return abs(shares[classes.index(said)] - shares[classes.index(own)]) <= _TIE


_FIX = (
    "install what the package pins (requirements in its package.json), or register the model again"
)
