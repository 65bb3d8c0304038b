"""`charkha init`: a new project from a template, in git, with its data under version control."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.data.adding import add
from charkha.definition import nearest
from charkha.errors import DONE, UserError
from charkha.project import open_project


@dataclass(frozen=True, kw_only=True)
class Template:
    """A folder under `templates/`, the dataset that lies in it, and what to type after `cd`."""

    dataset: str
    file: str
    first_commands: tuple[str, ...]


TEMPLATES = {
    "house-prices": Template(
        dataset="ames",
        file="data/ames.parquet",
        first_commands=("charkha run", "charkha predict house-prices houses.jsonl"),
    )
}
_FOLDER = Path(__file__).parent.parent / "templates"
_LEFT_BEHIND = ("__pycache__", "*.pyc", ".pytest_cache", ".charkha")  # by whoever ran it in place


def main(arguments: list[str]) -> int:
    """Run `charkha init`."""
    asked = parser("init", example="charkha init houses --template house-prices")
    asked.add_argument("folder", type=Path, metavar="DIR", help="new, or empty")
    asked.add_argument("--template", default="house-prices", help=f"one of: {', '.join(TEMPLATES)}")
    given = asked.parse_args(arguments)
    commands = [
        f"cd {os.path.relpath(given.folder)}",
        *init(given.folder, given.template).first_commands,
    ]
    if given.json:
        show.as_json({"folder": str(given.folder.resolve()), "next": commands})
    else:
        print(f"{given.folder} is ready. Next:\n")
        print("".join(f"  {command}\n" for command in commands), end="")
    return DONE


def init(folder: Path, template: str) -> Template:
    """Write the template to `folder`, with a git repository and its dataset; or leave nothing.

    A repository that is already around the folder is used, unless it ignores the folder, and
    then the commit is left to its owner.

    Raises:
        UserError: there is no such template, the folder is not empty, or there is no git.
        MissingExtra: DVC is not installed.
    """
    if template not in TEMPLATES:
        meant = nearest(template, TEMPLATES)
        raise UserError(
            f"there is no template {template!r}",
            fix=f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(TEMPLATES)}",
        )
    if shutil.which("git") is None:
        raise UserError("git is not installed", fix="install it: versions of data stand in git")
    chosen, folder = TEMPLATES[template], folder.resolve()
    existed = _check_empty(folder)
    _write(_FOLDER / template, folder)
    try:
        _version(folder, chosen, template)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder)
        if existed:
            folder.mkdir()
        raise
    return chosen


def _check_empty(folder: Path) -> bool:
    """Return whether the folder exists, being empty."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"{folder} is a file", fix="give the name of a new folder")
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty", fix="give the name of a new folder")
    return True


def _write(template: Path, folder: Path) -> None:
    """Copy the template beside the folder and move it there, so that nobody sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        written = beside / folder.name
        shutil.copytree(template, written, ignore=shutil.ignore_patterns(*_LEFT_BEHIND))
        written.rename(folder)  # also over an empty folder
    finally:
        shutil.rmtree(beside)


def _version(folder: Path, template: Template, name: str) -> None:
    own = not _in_repository(folder)
    if own:
        _git(folder, "init", "--quiet")
    with show.working(f"adding the dataset {template.dataset}"):
        add(open_project(folder), str(folder / template.file), template.dataset)
    if own:
        _git(folder, "add", "--all")
        _git(folder, *_author(folder), "commit", "--quiet", "-m", f"Start from {name}")


def _in_repository(folder: Path) -> bool:
    """Whether a repository is around the folder that does not ignore it."""
    inside = _asked(folder, "rev-parse", "--is-inside-work-tree") == "true"
    return inside and _asked(folder, "check-ignore", str(folder)) is None


def _author(folder: Path) -> list[str]:
    """Return options with an author where git knows none, for this one commit."""
    if _asked(folder, "config", "user.email"):
        return []
    return ["-c", "user.name=Charkha", "-c", "user.email=charkha@localhost"]


def _git(folder: Path, *arguments: str) -> None:
    done = _run(folder, *arguments)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed: {done.stderr.strip()}", fix="charkha doctor")


def _asked(folder: Path, *arguments: str) -> str | None:
    done = _run(folder, *arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # git, with arguments of our own
        ["git", "-C", str(folder), *arguments],  # noqa: S607  # the git of this machine's PATH
        capture_output=True,
        text=True,
        check=False,
    )
