"""`charkha monitor`: whether what a model is asked still looks as in training, and it does as well."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from charkha.cli import show, telling_performance
from charkha.cli.arguments import parser, seconds, subcommand, subcommands
from charkha.clock import to_minute
from charkha.data.late import late
from charkha.errors import DONE, YOU
from charkha.project import open_project

if TYPE_CHECKING:
    from datetime import datetime

    from charkha.cli.arguments import Subcommands
    from charkha.monitoring.checking import Checked
    from charkha.monitoring.drift import ColumnVerdict, Verdict

_MODEL = "NAME (its champion), NAME@3 or NAME@challenger"
_LATER = {  # actions that stand in files of their own, with what they need
    "watch": "charkha.cli.monitor_watch",
    "report": "charkha.cli.monitor_report",
}


def main(arguments: list[str]) -> int:
    """Run one `charkha monitor …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    if given.action in _LATER:
        code: int = late(_LATER[given.action], extra="monitoring").act(project, given)
        return code
    checking = late("charkha.monitoring.checking", extra="monitoring")
    with show.working(f"checking the records of {given.model}"):
        found = checking.check(
            project,
            given.model,
            since=given.since,
            until=given.until,
            window=given.window,
            segment=given.segment,
        )
        done = None
        if given.segment is None:
            done = telling_performance.measure(
                project,
                given.model,
                since=given.since,
                until=given.until,
                window=given.window,
                drifted=_drifted(found),
            )
    if given.json:
        beside = {} if done is None else done.as_json()
        show.as_json([{**asdict(each), **beside} for each in found])
    elif not found:
        print("no segment of the records has training rows to be compared with")
    for each in [] if given.json else found:
        _tell(each)
    if done is not None and not given.json:
        telling_performance.tell(done)
    drifted = any(each.last.outcome == "drift" for each in found)
    lower = done is not None and done.lower
    failed = (drifted and given.fail_on_drift) or (lower and given.fail_on_lower)
    return YOU if failed else DONE


def _parser() -> argparse.ArgumentParser:
    made = parser("monitor", example="charkha monitor check house-prices --since 1d")
    among = subcommands(made)
    check = subcommand(
        among,
        "check",
        "compare what a version was asked, and how right it was, with training and held-out rows",
        example="charkha monitor check house-prices --since 7d --window 1d",
    )
    check.add_argument("model", metavar="MODEL", help=_MODEL)
    check.add_argument(
        "--since", metavar="TIME", default="1d", help="7d, 12h, 2026-11-24; 1d without it"
    )
    check.add_argument("--until", metavar="TIME", help="the moment after the last; UTC, as --since")
    check.add_argument(
        "--window", metavar="SIZE", help="cut the records into windows of 1000 (rows), or of 6h"
    )
    check.add_argument(
        "--segment", metavar="COLUMN", help="judge the commonest values of an input apart"
    )
    check.add_argument(
        "--fail-on-drift", action="store_true", help="end with 1 where the last window drifted"
    )
    check.add_argument(
        "--fail-on-lower",
        action="store_true",
        help="end with 1 where performance is lower in the last window with enough labels",
    )
    _add_watch(among)
    _add_report(among)
    return made


def _add_watch(among: Subcommands) -> None:
    watch = subcommand(
        among,
        "watch",
        "look at a version again and again, and tell of what is wrong; --json: a line a look",
        example="charkha monitor watch house-prices --every 5min",
    )
    watch.add_argument("model", metavar="MODEL", help=_MODEL)
    watch.add_argument(
        "--every",
        metavar="TIME",
        type=seconds,
        default=60.0,
        help="between two looks: 30s, 5min, 1h; 60s without it",
    )
    watch.add_argument("--once", action="store_true", help="look once: for cron and for CI")
    watch.add_argument("--window", metavar="SIZE", help="1000 (rows) or 6h, as of `check`")
    watch.add_argument("--since", metavar="TIME", help="look no further back than 7d, 2026-11-24")


def _add_report(among: Subcommands) -> None:
    report = subcommand(
        among,
        "report",
        "write all that is known of a version into one HTML file",
        example="charkha monitor report house-prices --since 30d",
    )
    report.add_argument("model", metavar="MODEL", help=_MODEL)
    report.add_argument(
        "--since", metavar="TIME", default="30d", help="7d, 12h, 2026-11-24; 30d without it"
    )
    report.add_argument("--until", metavar="TIME", help="the moment after the last; UTC")
    report.add_argument("--window", metavar="SIZE", help="1000 (rows) or 6h, as of `check`")
    report.add_argument(
        "--out", metavar="FILE", default="report.html", help="report.html without it"
    )


def _drifted(found: Sequence[Checked]) -> tuple[str, ...]:
    """Return the columns that drifted in the last window."""
    return tuple(name for each in found for name in each.last.drifted)


def _tell(found: Checked) -> None:
    last = found.last
    about = f"{found.version}, {found.segment}" if found.segment else found.version
    print(show.bold(f"{about}: {last.outcome}"))
    print(f"  {_count(last.rows)} from {_moment(last.since)} to {_moment(last.until)}", end="")
    print(f" against {_count(found.reference_rows)} of training")
    print(f"  {last.because}")
    if last.outcome == "drift":
        print(f"  {'alarm' if found.alarm.raised else 'no alarm'}: {found.alarm.because}")
    if len(found.verdicts) > 1:
        print()
        _windows(found.verdicts)
    if last.columns:
        print()
        _columns(found)
    notices = [(c.column, text) for c in last.columns for text in c.notices if not c.drifted]
    for column, text in notices:
        show.note(f"note: {column}: {text}")
    for text in found.notes:
        show.note(f"note: {text}")


def _windows(verdicts: tuple[Verdict, ...]) -> None:
    rows = [
        (_moment(v.since), _moment(v.until), v.rows, v.outcome, ", ".join(v.drifted))
        for v in verdicts
    ]
    show.table(("from", "to", "rows", "verdict", "columns"), rows)


def _columns(found: Checked) -> None:
    rows = [
        (
            c.column,
            "drift" if c.drifted else "",
            f"{c.p:.2g}",
            f"{c.effects.shift_sd:.2f}",
            f"{c.effects.psi:.3f}",
            _moment(found.alarm.since[c.column]) if c.column in found.alarm.since else "",
            _words(c),
        )
        for c in found.last.columns
    ]
    show.table(("column", "", "p", "shift", "PSI", "since", "what changed"), rows)


def _words(column: ColumnVerdict) -> str:
    return column.because if column.p <= 0.05 or column.drifted else ""


def _count(rows: int) -> str:
    return f"{rows:,} row{'s' if rows != 1 else ''}"


def _moment(at: datetime | None) -> str:
    return "" if at is None else to_minute(at)
