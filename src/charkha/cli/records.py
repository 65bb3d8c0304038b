"""`charkha records`: what a model predicted, for whom, and what turned out to be true."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from charkha.cli import show
from charkha.cli.arguments import count, parser
from charkha.cli.files import write_file
from charkha.clock import to_second
from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import DONE, NotFound
from charkha.models.formats import format_of
from charkha.project import Project, open_project

if TYPE_CHECKING:
    import pyarrow as pa

_FEW = 20


def main(arguments: list[str]) -> int:
    """Run `charkha records`."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    if given.seal:
        late("charkha.serving.records.sealing", extra="records").seal_project(project)
    reading = late("charkha.serving.records.reading", extra="records")
    if given.id:
        _show_one(reading.find_record(given.id, project=project), given)
    elif given.model is None:
        _list(reading.recorded_models(project), as_json=given.json)
    else:
        _read(project, reading, given)
    return DONE


def _parser() -> argparse.ArgumentParser:
    made = parser("records", example="charkha records house-prices --since 7d")
    made.add_argument(
        "model", metavar="MODEL", nargs="?", help="name of a model; the models without it"
    )
    made.add_argument("--since", metavar="TIME", help="7d, 12h, 2026-11-24 or 2026-11-24T10:00Z")
    made.add_argument("--until", metavar="TIME", help="the moment after the last; UTC, as --since")
    made.add_argument("--version", type=count, metavar="N", help="of this version only")
    made.add_argument("--variant", metavar="NAME", help="of this variant only, or of this shadow")
    made.add_argument("--shadow", action="store_true", help="those of shadows, too")
    made.add_argument(
        "--limit", type=count, metavar="N", help=f"the newest so many ({_FEW} in a table)"
    )
    made.add_argument("--id", metavar="ID", help="one prediction, with all that is known of it")
    made.add_argument("-o", "--output", metavar="FILE", help="write a .parquet, .csv or .jsonl")
    made.add_argument("--seal", action="store_true", help="seal what waits for it, before all else")
    return made


def _read(project: Project, reading: Any, given: argparse.Namespace) -> None:
    whole = given.json or given.output
    form = format_of(given.output, None) if given.output else None
    with show.working(f"reading the records of {given.model}"):
        table = reading.read_records(
            given.model,
            since=given.since,
            until=given.until,
            version=given.version,
            variant=given.variant,
            shadow=given.shadow,
            limit=given.limit or (None if whole else _FEW),
            project=project,
        )
    exporting = late("charkha.serving.records.exporting", extra="records")
    if given.output and form:
        write_file(given.output, exporting.as_file(table, form))
        show.note(f"{table.num_rows:,} records in {given.output}")
    elif given.json:
        for row in exporting.plain_rows(table):
            sys.stdout.write(f"{exporting.as_json_line(row)}\n")
    elif table.num_rows:
        _table(table)
    if not table.num_rows:
        _explain_nothing(given.model, reading.recorded_models(project))


def _table(table: pa.Table) -> None:
    columns = ("time", "version", "variant", "prediction", "ground_truth", "latency_s", "id")
    rows = [
        (
            to_second(row["time"]),
            row["version"],
            row["variant"] + (" (shadow)" if row["role"] == "shadow" else ""),
            row["prediction"],
            row["ground_truth"],
            show.duration(row["latency_s"]),
            row["id"],
        )
        for row in table.select([*columns, "role"]).to_pylist()
    ]
    show.table(("time", "version", "variant", "prediction", "truth", "took", "id"), rows)


def _explain_nothing(model: str, known: list[str]) -> None:
    meant = None if model in known else nearest(model, known)
    hint = f"did you mean {meant!r}?" if meant else f"recorded are: {', '.join(known) or 'none'}"
    show.note(f"no such record of {model!r}\n  → {hint}")


def _list(models: list[str], *, as_json: bool) -> None:
    if as_json:
        show.as_json(models)
    elif models:
        print("\n".join(models))
    else:
        print("no record yet\n  → charkha serve MODEL")


def _show_one(row: dict[str, Any] | None, given: argparse.Namespace) -> None:
    if row is None:
        raise NotFound(
            f"no prediction {given.id} is recorded",
            fix="ask where the server runs that made it, or wait until it is sealed",
        )
    exporting = late("charkha.serving.records.exporting", extra="records")
    plain = exporting.plain_row(row)
    if given.json:
        sys.stdout.write(f"{exporting.as_json_line(plain)}\n")
        return
    width = max(map(len, plain))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in plain.items()))
