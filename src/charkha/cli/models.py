"""`charkha models`: list, show, compare, promote and roll back model versions."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.cli.arguments import parser, subcommand, subcommands
from charkha.clock import to_second
from charkha.data.late import late
from charkha.errors import DONE
from charkha.models import verdict
from charkha.models.comparing import Change, Facts, compare, facts
from charkha.models.registry import find_version, list_versions
from charkha.project import Project, open_project

if TYPE_CHECKING:
    from charkha.models.promotion import Moved
    from charkha.models.registries.port import ModelVersion

_REFERENCE = "NAME, NAME@3 or NAME@champion"
_BECAUSE = "why; it is kept in the ledger"


def main(arguments: list[str]) -> int:
    """Run one `charkha models …` command line; return the exit code."""
    given = _parser().parse_args(arguments)
    _ACTIONS[given.action](open_project(environment=given.env), given)
    return DONE


def _parser() -> argparse.ArgumentParser:
    made = parser("models", example="charkha models list")
    among = subcommands(made)
    listed = subcommand(
        among, "list", "list versions, with their aliases and scores", example="charkha models list"
    )
    listed.add_argument("name", metavar="NAME", nargs="?", help="of one model; all without it")
    shown = subcommand(
        among, "show", "show a version with its card", example="charkha models show houses@champion"
    )
    shown.add_argument("version", metavar="VERSION", help=_REFERENCE)
    diff = subcommand(
        among,
        "diff",
        "say how two versions differ: scores, parameters, data, signature, requirements, card",
        example="charkha models diff houses@champion houses@challenger",
    )
    diff.add_argument("before", metavar="A", help=_REFERENCE)
    diff.add_argument("after", metavar="B", help=_REFERENCE)
    promote = subcommand(
        among,
        "promote",
        "make a version champion, and the champion previous",
        example='charkha models promote houses@challenger --because "better in every district"',
    )
    promote.add_argument("version", metavar="VERSION", help=_REFERENCE)
    promote.add_argument("--because", metavar="TEXT", help=_BECAUSE)
    promote.add_argument(
        "--force", action="store_true", help="also if its gate refused it; needs --because"
    )
    rollback = subcommand(
        among,
        "rollback",
        "make the previous champion champion again",
        example='charkha models rollback houses --because "complaints from the north"',
    )
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("--because", metavar="TEXT", help=_BECAUSE)
    return made


def _list(project: Project, given: argparse.Namespace) -> None:
    versions = list_versions(project, given.name)
    if given.name and not versions:
        find_version(project, given.name)  # says which models there are
    if given.json:
        show.as_json([_as_json(version) for version in versions])
        return
    if not versions:
        print(
            "no model is registered yet\n  → charkha run, with register(model, …) in the pipeline"
        )
        return
    rows = [
        (
            version.name,
            version.version,
            ", ".join(version.aliases),
            version.tags.get("charkha.gate", ""),
            _scores(version),
            _data(version),
            version.tags.get("charkha.run", ""),
            to_second(version.created_at),
        )
        for version in reversed(versions)
    ]
    show.table(("model", "version", "alias", "gate", "test", "data", "run", "made"), rows)


def _show(project: Project, given: argparse.Namespace) -> None:
    known = facts(project, find_version(project, given.version))
    version = known.version
    if given.json:
        show.as_json(_facts_as_json(known))
        return
    print(show.bold(f"{version}  {', '.join(version.aliases)}".rstrip()))
    tags = version.tags
    told = {
        "gate": f"{tags.get('charkha.gate', 'not judged')}  {tags.get('charkha.because', '')}",
        "run": tags.get("charkha.run"),
        "commit": tags.get("charkha.commit"),
        "data": tags.get("charkha.data"),
        "params": ", ".join(f"{name}={value}" for name, value in known.params.items()),
        "package": version.package,
        "made": to_second(version.created_at),
    }
    for name, text in told.items():
        if text:
            print(f"  {name:<8} {text.strip()}")
    if known.missing:
        show.note(f"note: {known.missing}")
    if known.card:
        print(f"\n{known.card}")


def _diff(project: Project, given: argparse.Namespace) -> None:
    before = facts(project, find_version(project, given.before))
    after = facts(project, find_version(project, given.after))
    found = compare(before, after)
    if given.json:
        show.as_json(
            {"before": str(before.version), "after": str(after.version), **_changes_as_json(found)}
        )
        return
    print(show.bold(f"{before.version} → {after.version}"))
    groups = {name: value for name, value in vars(found).items() if value}
    if not groups:
        print("  nothing differs")
    for name, changes in groups.items():
        print(f"  {name}")
        for change in changes:
            print(f"    {_change(change) if isinstance(change, Change) else change}")
    for missing in (before, after):
        if missing.missing:
            show.note(f"note: {missing.missing}; so its package is not compared")


def _promote(project: Project, given: argparse.Namespace) -> None:
    promotion = late("charkha.models.promotion", extra="mlflow")
    moved = promotion.promote(
        project, given.version, given.because, force=given.force, working=show.working
    )
    _tell(moved, given)


def _rollback(project: Project, given: argparse.Namespace) -> None:
    promotion = late("charkha.models.promotion", extra="mlflow")
    _tell(promotion.roll_back(project, given.name, given.because, working=show.working), given)


def _tell(moved: Moved, given: argparse.Namespace) -> None:
    if given.json:
        show.as_json(
            {
                "champion": _as_json(moved.champion),
                "before": _as_json(moved.before) if moved.before else None,
                "changed": moved.changed,
                "because": moved.because,
            }
        )
    elif not moved.changed:
        print(f"{moved.champion} is the champion already: nothing changed")
    elif moved.before is None:
        print(f"{moved.champion} is the champion")
    else:
        print(f"{moved.champion} is the champion, instead of {moved.before}")


def _change(change: Change) -> str:
    if change.before is None:
        return f"+ {change.name} {_number(change.after)}"
    if change.after is None:
        return f"- {change.name} {_number(change.before)}"
    if isinstance(change.before, float) and isinstance(change.after, float):
        before, after = verdict.show(change.before), verdict.show(change.after)
        gap = change.after - change.before
        return f"  {change.name} {before} → {after} ({'+' * (gap > 0)}{verdict.show(gap)})"
    return f"  {change.name} {change.before} → {change.after}"


def _number(value: object) -> object:
    return verdict.show(value) if isinstance(value, float) else value


def _scores(version: ModelVersion) -> str:
    scores = json.loads(version.tags.get("charkha.metrics", "{}"))
    return ", ".join(
        f"{name} {verdict.show(value)}" for name, value in scores.get("test", {}).items()
    )


def _data(version: ModelVersion) -> str:
    """Return `ames@a304afb9`, as `charkha data restore` takes it."""
    pairs = (text.partition("=") for text in version.tags.get("charkha.data", "").split())
    return ", ".join(f"{name}@{md5.removeprefix('md5:')[:8]}" for name, _, md5 in pairs)


def _as_json(version: ModelVersion) -> dict[str, object]:
    return version._asdict()


def _facts_as_json(known: Facts) -> dict[str, object]:
    return {**asdict(known), "version": _as_json(known.version)}


def _changes_as_json(found: object) -> dict[str, object]:
    return {
        name: [c._asdict() if isinstance(c, Change) else c for c in changes]
        for name, changes in vars(found).items()
    }


_ACTIONS = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "promote": _promote,
    "rollback": _rollback,
}
