"""charkha data: add, list, log, push, pull, restore, diff, check and announce datasets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from charkha.cli import show
from charkha.cli.arguments import parser, subcommand, subcommands
from charkha.clock import to_minute
from charkha.data import adding, moving, versions
from charkha.data.late import late
from charkha.errors import DONE, YOU, CharkhaError, UserError
from charkha.project import Project, open_project

if TYPE_CHECKING:
    from charkha.cli.arguments import Subcommands
    from charkha.data.checks import Failure
    from charkha.data.differences import DatasetDifference, FilesDifference, TableDifference
    from charkha.data.moving import Moved
    from charkha.data.sources.port import Progress
    from charkha.data.versions import DatasetVersion

_FORCE = "overwrite changes that are in no version"


def main(arguments: list[str]) -> int:
    """Run one `charkha data …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    project = open_project(environment=given.env)
    code = _ACTIONS[given.action](project, given)
    if given.action in _NEWS and project.airflow.on_data:
        _tell_airflow(project)
    return code


def _parser() -> argparse.ArgumentParser:
    made = parser("data", example="charkha data add ames.parquet")
    among = subcommands(made)
    _describe_add(among)
    subcommand(
        among, "list", "list the datasets and what is here of them", example="charkha data list"
    )
    log = subcommand(
        among, "log", "list the versions of a dataset", example="charkha data log ames"
    )
    log.add_argument("name", metavar="NAME")
    push = subcommand(
        among, "push", "copy datasets to the remote", example="charkha data push ames"
    )
    push.add_argument("names", metavar="NAME", nargs="*", help="all without any")
    pull = subcommand(
        among, "pull", "bring datasets from the remote", example="charkha data pull ames"
    )
    pull.add_argument("names", metavar="NAME", nargs="*", help="all without any")
    pull.add_argument("--force", action="store_true", help=_FORCE)
    _describe_restore(among)
    _describe_diff(among)
    check = subcommand(
        among,
        "check",
        "hold datasets against the rules in NAME.checks.toml beside them",
        example="charkha data check ames",
    )
    check.add_argument("names", metavar="NAME", nargs="*", help="all that have rules, without any")
    subcommand(
        among,
        "announce",
        "tell Airflow which versions are here, where it was told of others",
        example="charkha data announce",
    )
    return made


def _describe_add(among: Subcommands) -> None:
    add = subcommand(
        among,
        "add",
        "make a file, a folder or something on the web the newest version of a dataset",
        example="charkha data add https://example.org/houses.csv --name houses",
    )
    add.add_argument(
        "source",
        metavar="SOURCE",
        help="a path, https://…, s3://bucket/key (a folder ends in /) or kaggle://owner/dataset",
    )
    add.add_argument("--name", help="the dataset's name; the file's up to its first dot without it")
    add.add_argument("--force", action="store_true", help=_FORCE)


def _describe_restore(among: Subcommands) -> None:
    restore = subcommand(
        among,
        "restore",
        "make another version of a dataset the one that is here",
        example="charkha data restore ames@a304afb9",
    )
    restore.add_argument(
        "version",
        metavar="NAME@VERSION",
        help="a git revision (HEAD~2, a tag) or the first digits of the md5 that `log` shows",
    )
    restore.add_argument("--force", action="store_true", help=_FORCE)


def _describe_diff(among: Subcommands) -> None:
    diff = subcommand(
        among,
        "diff",
        "say which rows, columns or files changed between two versions of a dataset",
        example="charkha data diff ames HEAD~1 --key Longitude --key Latitude",
    )
    diff.add_argument("name", metavar="NAME")
    diff.add_argument("before", metavar="A", nargs="?", help="a version; HEAD's without it")
    diff.add_argument("after", metavar="B", nargs="?", help="a version; what is here without it")
    diff.add_argument(
        "--key",
        metavar="COLUMN",
        action="append",
        default=[],
        help="a column that tells rows apart (may be given again)",
    )


def _add(project: Project, given: argparse.Namespace) -> int:
    with _progress(f"adding {given.source}") as progress:
        version = adding.add(
            project, given.source, given.name, force=given.force, progress=progress
        )
    if given.json:
        show.as_json(version.as_json())
        return DONE
    pointer = version.pointer
    print(f"added {version.name} {version.short} ({_extent(version)})")
    tracked = [os.path.relpath(pointer.file), os.path.relpath(pointer.file.parent / ".gitignore")]
    show.note(f"  → git add {' '.join(tracked)}, commit, then: charkha data push {version.name}")
    return DONE


def _list(project: Project, given: argparse.Namespace) -> int:
    found = versions.statuses(project)
    if given.json:
        show.as_json([status.as_json() for status in found])
    elif not found:
        show.note(f"no datasets in {project.data.folder}\n  → charkha data add FILE")
    else:
        rows = [
            (
                status.version.name,
                status.version.short,
                status.version.pointer.rows,
                status.version.pointer.files,
                _size(status.version),
                status.state if status.committed else f"{status.state}, .dvc file not committed",
            )
            for status in found
        ]
        show.table(("dataset", "version", "rows", "files", "size", "state"), rows)
    return DONE


def _log(project: Project, given: argparse.Namespace) -> int:
    found = versions.log(project, given.name)
    if given.json:
        show.as_json([version.as_json() for version in found])
        return DONE
    rows = [
        (
            version.short,
            version.commit and to_minute(version.commit.at),
            version.commit and version.commit.revision[:8],
            version.pointer.rows,
            _size(version),
            version.commit.subject if version.commit else "(not committed)",
        )
        for version in found
    ]
    show.table(("version", "date", "commit", "rows", "size", "subject"), rows)
    return DONE


def _push(project: Project, given: argparse.Namespace) -> int:
    names = ", ".join(given.names) or "all datasets"
    with show.working(f"pushing {names}"):
        moved = moving.push(project, given.names)
    return _moved(moved, "pushed to", as_json=given.json)


def _pull(project: Project, given: argparse.Namespace) -> int:
    names = ", ".join(given.names) or "all datasets"
    with show.working(f"pulling {names}"):
        moved = moving.pull(project, given.names, force=given.force)
    return _moved(moved, "pulled from", as_json=given.json)


def _moved(moved: Moved, done: str, *, as_json: bool) -> int:
    if as_json:
        show.as_json(asdict(moved))
    else:
        files = _count(moved.files, "file") if moved.files else "nothing"
        print(f"{', '.join(moved.datasets) or 'no datasets'}: {files} {done} {moved.remote}")
    return DONE


def _restore(project: Project, given: argparse.Namespace) -> int:
    name, at, version = given.version.partition("@")
    if not (at and version):
        raise UserError(
            f"{given.version} names no version",
            fix=f"charkha data restore {name}@VERSION; the versions: charkha data log {name}",
        )
    with show.working(f"restoring {name} as of {version}"):
        found = moving.restore(project, name, version, force=given.force)
    if given.json:
        show.as_json(found.as_json())
    else:
        of = f" of {found.commit.at:%Y-%m-%d} ({found.commit.subject})" if found.commit else ""
        print(f"{name} is {found.short}{of}: {_extent(found)}")
        show.note(f"  → to keep it so: git add {os.path.relpath(found.pointer.file)}, commit")
    return DONE


def _diff(project: Project, given: argparse.Namespace) -> int:
    with show.working(f"comparing versions of {given.name}"):
        difference: DatasetDifference = late("charkha.data.differences", extra="dvc").diff(
            project, given.name, given.before, given.after, key=tuple(given.key)
        )
    if given.json:
        show.as_json(asdict(difference))
        return DONE
    print(f"{difference.name}: {difference.before} → {difference.after}")
    if difference.table is not None:
        _show_table_difference(difference.table)
    elif difference.files is not None:
        _show_files_difference(difference.files)
    else:
        print("  the same bytes")
    return DONE


def _show_table_difference(table: TableDifference) -> None:
    print(f"  rows     {table.rows_before:,} → {table.rows_after:,} (by {table.compared_by})")
    for count, what in (
        (table.rows_added, "added"),
        (table.rows_removed, "removed"),
        (table.rows_changed, "changed"),
    ):
        if count:
            print(f"           {count:,} {what}")
    for sign, columns in (("+", table.columns_added), ("-", table.columns_removed)):
        for column in columns:
            print(f"  column {sign} {column}")
    for column, what in table.columns_changed.items():
        print(f"  column ~ {column}: {what}")


def _show_files_difference(files: FilesDifference) -> None:
    for sign, names in (("+", files.added), ("-", files.removed), ("~", files.changed)):
        for name in names:
            print(f"  file {sign} {name}")


def _check(project: Project, given: argparse.Namespace) -> int:
    checking = late("charkha.data.checking", extra="checks")
    with show.working("reading data"):
        found: dict[str, list[Failure]] = checking.check_all(project, given.names)
    if given.json:
        show.as_json({name: [asdict(failure) for failure in found[name]] for name in found})
    elif not found:
        show.note("no dataset has rules\n  → write data/NAME.checks.toml")
    else:
        for name, failures in found.items():
            print(f"{name}: {'every rule holds' if not failures else 'broken'}")
            for failure in failures:
                print(f"  {failure}")
    return YOU if any(found.values()) else DONE


def _announce(project: Project, given: argparse.Namespace) -> int:
    told = _assets().announce(project)
    if given.json:
        show.as_json(told)
    elif not told:
        print("Airflow has been told of all that is here")
    for name, version in told.items() if not given.json else ():
        print(f"told Airflow of {name} {version.partition(':')[2][:8]}")
    return DONE


def _tell_airflow(project: Project) -> None:
    """Tell Airflow what is new; what it was told of is done, whether it hears of it or not."""
    try:
        told = _assets().announce(project)
    except CharkhaError as e:
        show.note(f"Airflow has not heard of it: {e.what}\n  → charkha data announce")
    else:
        if told:
            show.note(f"told Airflow of {', '.join(told)}")


def _assets() -> Any:
    return import_module("charkha.pipeline.engines.airflow_assets")  # late: few ask for it


_NEWS = ("add", "pull", "restore")
_ACTIONS = {
    "announce": _announce,
    "add": _add,
    "list": _list,
    "log": _log,
    "push": _push,
    "pull": _pull,
    "restore": _restore,
    "diff": _diff,
    "check": _check,
}


def _extent(version: DatasetVersion) -> str:
    pointer = version.pointer
    counted = (
        _count(pointer.rows, "row"),
        _count(pointer.columns, "column"),
        _count(pointer.files, "file"),
        _size(version),
    )
    return ", ".join(part for part in counted if part)


def _count(number: int | None, what: str) -> str | None:
    return None if number is None else f"{number:,} {what}{'s' if number != 1 else ''}"


def _size(version: DatasetVersion) -> str | None:
    count = version.pointer.size_bytes
    return None if count is None else show.size(count)


@contextmanager
def _progress(text: str) -> Iterator[Progress]:
    """Show a bar of the bytes that come, on a terminal; one line elsewhere."""
    if not (sys.stderr.isatty() and find_spec("rich")):
        show.note(text)
        yield lambda done, total: None
        return
    progress, console = import_module("rich.progress"), import_module("rich.console")  # late: 90 ms
    shown = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
    with shown:
        task = shown.add_task(text, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
