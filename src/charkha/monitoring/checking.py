"""A version's records judged against its profile, and the verdicts kept in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.columns import label_of
from charkha.data.profiles.window import summarise
from charkha.definition import nearest
from charkha.errors import UserError
from charkha.ledger import Decision, open_ledger, who_acts
from charkha.models.packaged import folder_of
from charkha.models.profiled import INPUT, PREDICTION, TRUTH, profile_of
from charkha.models.registry import find_version
from charkha.monitoring.drift import Alarm, Outcome, Told, Verdict, alarm, judge
from charkha.monitoring.windows import Size, Window, cut, size_of
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from charkha.data.profiles.profile import Profile
    from charkha.models.registries.port import ModelVersion
    from charkha.project import MonitoringSettings, Project

KIND = "drift"  # of the ledger's decisions
_SEGMENTS = 10  # the commonest values of a column that are looked at apart


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found out about a version, or one segment of its records."""

    version: str  # "house-prices@3"
    segment: str | None  # "district = North"
    verdicts: tuple[Verdict, ...]  # of the windows, oldest first
    alarm: Alarm
    reference_rows: int
    notes: tuple[str, ...] = ()  # what a person should know of the check itself

    @property
    def last(self) -> Verdict:
        """The verdict of the newest window."""
        return self.verdicts[-1]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a check is made of."""

    version: ModelVersion
    folder: Path  # of its package
    profile: Profile
    records: pa.Table  # with `time` and the columns of the profile, oldest first


def check(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    window: str | None = None,
    segment: str | None = None,
    limit: int | None = None,
    sparing: bool = False,
) -> list[Checked]:
    """Judge the records of one version, keep the verdicts, and return them.

    Checking the same records again keeps nothing twice.

    Args:
        project: whose registry, records, ledger and `[monitoring]` are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`.
        until: the same.
        window: size of one window, `1000` rows or `6h`; that of `[monitoring]` without it.
        segment: an input, by whose commonest values the records are judged apart, each against the
            training rows with that value that the package keeps (1,000 in all); one without it.
        limit: the newest so many records.
        sparing: keep a verdict only where it says another thing than the one before, or is of
            records that came after; for who looks each minute at windows that overlap.

    Raises:
        UserError: there is no such version, no record, no profile, no such column.
        BackendError: the registry, the blobs, the records or the ledger refuse.
    """
    size_text = window or project.monitoring.window
    size = size_of(size_text) if size_text else None
    seen = observe(project, reference, since=since, until=until, limit=limit)
    return check_observed(project, seen, size, segment=segment, sparing=sparing)


def observe(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    limit: int | None = None,
) -> Observed:
    """Read what `check` judges.

    Raises:
        UserError: as `check`.
        BackendError: the same.
    """
    version = find_version(project, reference)
    folder = folder_of(project, version)
    profile = profile_of(folder, str(version))
    records = _read(project, version, profile, since, until, limit)
    return Observed(version=version, folder=folder, profile=profile, records=records)


def check_observed(
    project: Project,
    observed: Observed,
    size: Size | None,
    *,
    segment: str | None = None,
    sparing: bool = False,
) -> list[Checked]:
    """Judge what was read, keep the verdicts, and return them; see `check`."""
    settings, version = project.monitoring, observed.version
    profile, records = observed.profile, observed.records
    parts: list[tuple[str | None, Profile, pa.Table]] = [(None, profile, records)]
    if segment is not None:
        parts = [*_segments(profile, records, observed.folder, segment)]
    found = []
    for label, own, rows in parts:
        kept = _without(own, ignored_by(project))
        verdicts = tuple(_judge(kept, w, settings, family=len(parts)) for w in cut(rows, size))
        told = _remember(project, version, label, kept, verdicts, sparing=sparing)
        found.append(replace(told, notes=_notes(project, profile)))
    return found


def ignored_by(project: Project) -> frozenset[str]:
    """Return the columns that are not looked at; what is redacted is null in all rows."""
    return frozenset({*project.monitoring.ignore, *project.records.redact})


def _notes(project: Project, profile: Profile) -> tuple[str, ...]:
    """Say which names in `ignore` are of no column here: a typing error, or another version's."""
    known = sorted({name.removeprefix(INPUT) for name in profile.columns} | set(profile.columns))
    notes = []
    for name in project.monitoring.ignore:
        if name not in known:
            meant = nearest(name, known)
            fix = f"; did you mean {meant!r}?" if meant else ""
            notes.append(
                f"[monitoring] ignore has {name!r}, which is no column of this version{fix}"
            )
    return tuple(notes)


def _read(
    project: Project,
    version: ModelVersion,
    profile: Profile,
    since: str | datetime | None,
    until: str | datetime | None,
    limit: int | None,
) -> pa.Table:
    records = read_records(
        version.name,
        since=since,
        until=until,
        version=version.version,
        columns=["time", *profile.columns],
        limit=limit,
        project=project,
    )
    if records.num_rows == 0:
        span = f" since {since}" if since else ""
        span += f" until {until}" if until else ""
        raise UserError(
            f"there is no record of {version}{span}",
            fix=f"look further back with --since, or see what there is: "
            f"charkha records {version.name}",
        )
    return records


def _judge(
    profile: Profile, window: Window, settings: MonitoringSettings, *, family: int
) -> Verdict:
    seen = summarise(window.records, profile)
    if TRUTH in seen:  # it comes later: what is not there yet is not missing
        known = window.records[TRUTH].drop_null()
        del seen[TRUTH]
        if len(known) >= settings.least_rows:
            seen |= summarise(pa.table({TRUTH: known}), profile)
    return judge(
        profile,
        seen,
        settings,
        rows=window.records.num_rows,
        since=window.since,
        until=window.until,
        family=family,
    )


def _segments(
    profile: Profile, records: pa.Table, folder: Path, column: str
) -> Iterator[tuple[str | None, Profile, pa.Table]]:
    """Yield a name, a profile and records for each of the commonest values of an input.

    Raises:
        UserError: there is no such input.
    """
    name = f"{INPUT}{column}"
    if name not in profile.columns:
        inputs = [c.removeprefix(INPUT) for c in profile.columns if c.startswith(INPUT)]
        meant = nearest(column, inputs)
        fix = f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(inputs)}"
        raise UserError(f"the model has no input {column!r}", fix=fix)
    reference = parquet.read_table(folder / "reference.parquet")
    counted = compute.value_counts(records[name].combine_chunks()).to_pylist()
    counted = [c for c in counted if c["values"] is not None]
    counted.sort(key=lambda c: (-c["counts"], label_of(c["values"])))
    for value in (c["values"] for c in counted[:_SEGMENTS]):
        trained = reference.filter(_equal(reference[column], value))
        if not trained.num_rows:
            continue
        rows = records.filter(_equal(records[name], value))
        inputs = [c for c in reference.column_names if f"{INPUT}{c}" in profile.columns]
        own = build_profile({f"{INPUT}{c}": trained[c] for c in inputs if c != column})
        yield f"{column} = {label_of(value)}", own, rows


def _equal(column: pa.ChunkedArray, value: object) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return compute.equal(column, pa.scalar(value).cast(column.type))


def _without(profile: Profile, ignored: frozenset[str]) -> Profile:
    kept = {
        name: column
        for name, column in profile.columns.items()
        if name not in ignored and name.removeprefix(INPUT) not in ignored
    }
    return replace(profile, columns=kept)


def _remember(
    project: Project,
    version: ModelVersion,
    segment: str | None,
    profile: Profile,
    verdicts: tuple[Verdict, ...],
    *,
    sparing: bool,
) -> Checked:
    """Keep the verdicts, and look back for windows before them that drifted too."""
    ledger = open_ledger(project)
    try:
        known = ledger.read(KIND, str(version))
        earlier = _earlier(known, segment, verdicts[0].since)
        for verdict in _news(known, segment, verdicts) if sparing else verdicts:
            ledger.record(_decision(version, segment, verdict))
    finally:
        ledger.close()
    history = [*earlier, *(v.told for v in verdicts)]
    return Checked(
        version=str(version),
        segment=segment,
        verdicts=verdicts,
        alarm=alarm(history, project.monitoring),
        reference_rows=max(
            (c.rows for n, c in profile.columns.items() if n != PREDICTION), default=0
        ),
    )


def _decision(version: ModelVersion, segment: str | None, verdict: Verdict) -> Decision:
    """Return what the ledger keeps; its time is the window's end, so that twice is once."""
    until = cast("datetime", verdict.until)
    return Decision(
        at=until.timestamp(),
        kind=KIND,
        subject=str(version),
        because=f"{verdict.outcome}: {f'{segment}: ' if segment else ''}{verdict.because}",
        numbers={
            "outcome": verdict.outcome,
            "segment": segment,
            "rows": verdict.rows,
            "since": cast("datetime", verdict.since).isoformat(),
            "until": until.isoformat(),
            "drifted": list(verdict.drifted),
            "columns": {
                c.column: {"p": c.p, "shift_sd": c.effects.shift_sd, "psi": c.effects.psi}
                for c in verdict.columns
            },
        },
        who=who_acts(),
    )


def _news(
    known: Sequence[Decision], segment: str | None, verdicts: Sequence[Verdict]
) -> Iterator[Verdict]:
    """Yield the verdicts that say another thing than the one before, or are of later records."""
    kept = [d for d in known if d.numbers["segment"] == segment]
    last = kept[-1].numbers if kept else None
    said = (last["outcome"], last["drifted"]) if last else None
    until = datetime.fromisoformat(str(last["until"])) if last else None
    for verdict in verdicts:
        since, ends = cast("datetime", verdict.since), cast("datetime", verdict.until)
        now = (verdict.outcome, list(verdict.drifted))
        if until is None or since > until or (now != said and ends > until):
            yield verdict
            said, until = now, ends


def _earlier(
    decisions: Sequence[Decision], segment: str | None, before: datetime | None
) -> list[Told]:
    """Return the verdicts of windows that ended before these begin, oldest first, none overlapping."""
    told: list[Told] = []
    end: datetime | None = None
    for decision in decisions:
        numbers = decision.numbers
        since = datetime.fromisoformat(str(numbers["since"]))
        until = datetime.fromisoformat(str(numbers["until"]))
        apart = end is None or since > end
        if numbers["segment"] != segment or (before and until >= before) or not apart:
            continue
        drifted = tuple(cast("list[str]", numbers["drifted"]))
        outcome = cast("Outcome", numbers["outcome"])
        told.append(Told(outcome=outcome, drifted=drifted, since=since))
        end = until
    return told
