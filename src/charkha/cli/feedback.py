"""`charkha feedback`: keep what turned out to be true of predictions, from a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.data.late import late
from charkha.errors import DONE, YOU, CharkhaError, DataError, UserError
from charkha.models.formats import FORMATS, format_of
from charkha.project import Project, open_project

if TYPE_CHECKING:
    from charkha.serving.records.feedback import Feedback

_MOST_SHOWN = 20
_FIELDS = ("id", "ground_truth", "time")


def main(arguments: list[str]) -> int:
    """Run `charkha feedback`; 1 where a row of the file was wrong, and the others are kept."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    form = format_of(given.file, given.format)
    outcomes = late("charkha.serving.records.outcomes", extra="records")
    place = "standard input" if given.file == "-" else given.file
    found = outcomes.read_outcomes(_read(given.file), form, _columns(given.column), place)
    _keep(project, found.feedback)
    unknown = _unknown(project, found.feedback)
    if given.json:
        show.as_json({"kept": len(found.feedback), "unknown": unknown, "wrong": found.wrong})
    else:
        _tell(len(found.feedback), unknown, found.wrong)
    return YOU if found.wrong else DONE


def _parser() -> argparse.ArgumentParser:
    made = parser("feedback", example="charkha feedback sold.csv --column ground_truth=price")
    text = "rows of id, ground_truth and perhaps time; - reads standard input"
    made.add_argument("file", metavar="FILE", help=text)
    made.add_argument("--format", choices=FORMATS, help="of FILE; by its name otherwise")
    made.add_argument(
        "--column",
        metavar="FIELD=NAME",
        action="append",
        default=[],
        help="the column that holds id, ground_truth or time, where it has another name",
    )
    return made


def _columns(given: list[str]) -> dict[str, str]:
    named = {}
    for text in given:
        field, separator, name = text.partition("=")
        if not separator or field not in _FIELDS:
            raise UserError(
                f"--column {text} names no field", fix=f"write --column {_FIELDS[1]}=NAME"
            )
        named[field] = name
    return named


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except FileNotFoundError as e:
        raise DataError(f"there is no file {file}", fix="give a CSV, Parquet or JSONL file") from e
    except IsADirectoryError as e:
        raise DataError(f"{file} is a folder", fix="give one file of feedback") from e


def _keep(project: Project, feedback: list[Feedback]) -> None:
    """Write the feedback down, then seal it, for there may be no server here that would."""
    records = late("charkha.serving.records", extra="records")
    log = records.open_feedback(project)
    log.append(feedback)
    log.close()
    try:
        sealing = late("charkha.serving.records.sealing", extra="records")
        sealing.seal_project(project)
    except CharkhaError as e:
        show.note(f"it is kept, and will be sealed later: {e}")


def _unknown(project: Project, feedback: list[Feedback]) -> int | None:
    """Return how many predictions nobody recorded; None where that cannot be told."""
    try:
        reading = late("charkha.serving.records.reading", extra="records")
        ids = {one.id for one in feedback}
        return len(ids) - len(reading.known_ids(ids, project=project))
    except CharkhaError as e:
        show.note(f"whether the predictions are known cannot be told: {e}")
        return None


def _tell(kept: int, unknown: int | None, wrong: list[str]) -> None:
    print(f"{kept:,} kept")
    if unknown:
        print(f"{unknown:,} of predictions that are not recorded")
    if wrong:
        print(f"{len(wrong):,} wrong, and not kept")
        for line in wrong[:_MOST_SHOWN]:
            print(f"  {line}")
        if len(wrong) > _MOST_SHOWN:
            print(f"  … and {len(wrong) - _MOST_SHOWN:,} more")
