"""Which columns explain why predictions have moved: the model asked with old and new values mixed.

Shapley values over the columns (Štrumbelj & Kononenko 2014; as an account of a change between two sets of
rows: Budhathoki et al. 2021): a held-out row becomes a row of the window one column after the other,
in many orders, and each column gets what the prediction moved by at its turn. The parts sum up to the
whole, exactly. Columns move one by one here though they may only ever move together in life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from charkha.data.profiles.window import summarise
from charkha.definition import nearest
from charkha.errors import UserError
from charkha.models.held_out import held_out_of
from charkha.models.package import ModelPackage, read_package
from charkha.models.packaged import folder_of
from charkha.models.predictions import Floats, Predictions
from charkha.models.profiled import INPUT, PREDICTION, profile_of
from charkha.models.registry import find_version
from charkha.models.verdict import show
from charkha.monitoring.checking import ignored_by
from charkha.monitoring.comparing import compare
from charkha.monitoring.measuring import records_of

if TYPE_CHECKING:
    from pathlib import Path

    from charkha.project import Project

OTHERS = "all others"
MOST_COLUMNS = 10  # one by one; the others are taken together
_ROWS = 1_000  # of each side
_PAIRS, _ORDERS = 100, 20  # pairs of rows for each order, and orders: two of them back to back
_SIGMAS = 1.96


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """A column's part in the shift of the predictions; all parts sum up to the shift."""

    column: str  # "area"; "all others" for those that were not looked at one by one
    moved: float  # of the mean prediction, in the target's unit
    low: float  # of its 95 % interval
    high: float
    share: float | None  # moved / shift; above 1 or below 0 where columns pull both ways


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Why the mean prediction is another one."""

    version: str
    of: str  # "price", or "share of yes" for classes
    before: float  # mean on the held-out rows (training rows where the package keeps no others)
    after: float  # mean on the window
    shift: float
    columns: tuple[Contribution, ...]  # the largest parts first

    @property
    def because(self) -> str:
        """The largest parts in words."""
        parts = [
            f"{c.column} {c.moved:+,.4g}" + (f" ({c.share:.0%})" if c.share is not None else "")
            for c in self.columns[:3]
        ]
        return f"{self.of} {show(self.before)} → {show(self.after)}: {', '.join(parts)}"


def explain_change(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    columns: Sequence[str] | None = None,
) -> Explained:
    """Say which columns explain the change in the predictions of one version.

    Args:
        project: whose registry and records are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`.
        until: the same.
        columns: inputs to be looked at one by one, such as those that drifted; the ten that changed
            most without it. The others are taken together.

    Raises:
        UserError: there is no such version, no record, no such input.
        BackendError: the registry, the blobs or the records refuse.
    """
    version = find_version(project, reference)
    folder = folder_of(project, version)
    package = read_package(folder, allow_pickle=project.allow_pickle)
    names = [c.name for c in package.about.signature.inputs]
    records = records_of(project, version, since, until)
    unknown = [c for c in columns or () if c not in names]
    if unknown:
        meant = nearest(unknown[0], names)
        fix = f"did you mean {meant!r}?" if meant else f"use some of: {', '.join(names)}"
        raise UserError(f"the model has no input {unknown[0]!r}", fix=fix)
    hidden = ignored_by(project)
    if columns is None:
        columns = _changed(project, folder, str(version), records, hidden)
    of, say = _number_of(package, folder, records)
    window = _rows(records.select([f"{INPUT}{n}" for n in names]))
    before = _reference(folder, names)
    chosen = [c for c in columns if c not in hidden][:MOST_COLUMNS]
    blocks = [(c, [c]) for c in chosen]
    # what is redacted is null in the records, and nobody knows what it was
    if rest := [n for n in names if n not in chosen and n not in project.records.redact]:
        blocks.append((OTHERS, rest))
    return contributions(package, say, before, window, blocks, version=str(version), of=of)


def contributions(
    package: ModelPackage,
    say: Callable[[Predictions], Floats],
    before: pd.DataFrame,
    window: pd.DataFrame,
    blocks: Sequence[tuple[str, Sequence[str]]],
    *,
    version: str,
    of: str,
) -> Explained:
    """Split the shift between two sets of rows among blocks of columns.

    Args:
        package: who is asked.
        say: makes one number of an answer.
        before: at most 1,000 rows.
        window: the same.
        blocks: a name and the columns that move together.
        version: for the result.
        of: the same.
    """
    rng = np.random.default_rng(0)
    moved = np.zeros((_ORDERS, _PAIRS, len(blocks)))
    mixed, turns = [], []
    for at in range(_ORDERS):
        if at % 2 == 0:
            order = rng.permutation(len(blocks))
            ones, others = (
                rng.choice(len(rows), _PAIRS, replace=len(rows) < _PAIRS)
                for rows in (before, window)
            )
        else:
            order = order[::-1]
        turns.append(order)
        mixed.append(_steps(before.iloc[ones], window.iloc[others], [blocks[b][1] for b in order]))
    said = say(package.answer(pd.concat(mixed, ignore_index=True)))
    steps = np.diff(said.reshape(_ORDERS, len(blocks) + 1, _PAIRS), axis=1)
    for at, order in enumerate(turns):
        moved[at][:, order] = steps[at].T
    pairs = moved.reshape(_ORDERS // 2, 2, _PAIRS, len(blocks)).mean(axis=1)
    pairs = pairs.reshape(-1, len(blocks))  # each pair of rows once, in both orders
    means, reach = pairs.mean(axis=0), _SIGMAS * pairs.std(axis=0) / np.sqrt(len(pairs))
    shift = float(means.sum())
    first = said.reshape(_ORDERS, len(blocks) + 1, _PAIRS)
    found = [
        Contribution(
            column=name,
            moved=float(mean),
            low=float(mean - r),
            high=float(mean + r),
            share=float(mean) / shift if shift else None,
        )
        for (name, _), mean, r in zip(blocks, means, reach, strict=True)
    ]
    found.sort(key=lambda c: (-abs(c.moved), c.column))
    return Explained(
        version=version,
        of=of,
        before=float(first[:, 0].mean()),
        after=float(first[:, -1].mean()),
        shift=shift,
        columns=tuple(found),
    )


def _steps(
    before: pd.DataFrame, window: pd.DataFrame, blocks: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Return the rows as they were, and after each block of columns came from the window."""
    rows = before.reset_index(drop=True)
    new = window.reset_index(drop=True)
    steps = [rows]
    for names in blocks:
        rows = rows.assign(**{name: new[name].astype(object) for name in names})
        steps.append(rows)
    return pd.concat([step.astype(object) for step in steps], ignore_index=True)


def _changed(
    project: Project, folder: Path, version: str, records: pa.Table, hidden: frozenset[str]
) -> list[str]:
    """Return the inputs whose distribution changed most, in standard deviations."""
    profile = profile_of(folder, version)
    seen = summarise(records, profile)
    shifts = {
        name.removeprefix(INPUT): compare(
            name, profile.columns[name], column, project.monitoring
        ).effects.shift_sd
        for name, column in seen.items()
        if name.startswith(INPUT) and column.rows
    }
    ranked = sorted(shifts, key=lambda name: (-shifts[name], name))
    return [name for name in ranked if name not in hidden][:MOST_COLUMNS]


def _reference(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return held-out rows, or training rows where the package keeps no others."""
    table = held_out_of(folder).table
    if table is None:
        table = parquet.read_table(folder / "reference.parquet")
        table = table.select(names).rename_columns([f"{INPUT}{n}" for n in names])
    return _rows(table.select([f"{INPUT}{n}" for n in names]))


def _rows(table: pa.Table) -> pd.DataFrame:
    """Return at most 1,000 rows, spread evenly, as the model takes them."""
    at = np.unique(np.linspace(0, table.num_rows - 1, min(table.num_rows, _ROWS)).astype(np.int64))
    frame: pd.DataFrame = table.take(pa.array(at)).to_pandas()
    return frame.rename(columns=lambda name: name.removeprefix(INPUT))


def _number_of(
    package: ModelPackage, folder: Path, records: pa.Table
) -> tuple[str, Callable[[Predictions], Floats]]:
    """Return what is averaged, in words, and how it is told from an answer.

    Of two classes it is the probability of the second; of more, that of the one that is predicted
    more often, or less often, than before by the largest part.
    """
    classes, target = package.about.classes, package.about.target
    if classes is None:
        return target, lambda said: np.asarray(said.values, np.float64)
    at = 1 if len(classes) == 2 else _moved_most(classes, folder, records)

    def share(said: Predictions) -> Floats:
        if said.probabilities is not None:
            return said.probabilities[:, at]
        return np.array([value == classes[at] for value in said.values.tolist()], dtype=np.float64)

    return f"probability of {classes[at]}", share


def _moved_most(classes: Sequence[object], folder: Path, records: pa.Table) -> int:
    table = held_out_of(folder).table
    sides = [t[PREDICTION].to_pylist() for t in (table, records) if t is not None]
    shares = [[side.count(label) / max(len(side), 1) for label in classes] for side in sides]
    return int(np.abs(np.subtract(shares[0], shares[-1])).argmax())
