"""Git, by its command: which versions of a file there are, and what stood in each of them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from charkha.errors import DataError, UserError

_FIELD, _RECORD = "\x1f", "\x1e"  # ASCII's own separators: no author or subject has them


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit, as a person names it."""

    revision: str  # 40 hex digits
    at: datetime  # when it was committed, with its time zone
    author: str
    subject: str


class Git:
    """The repository around a folder."""

    def __init__(self, folder: Path) -> None:
        """Find the repository.

        Raises:
            DataError: the folder is in none.
            UserError: there is no git on this machine.
        """
        found = _git(folder, "rev-parse", "--show-toplevel")
        if found.returncode:
            raise DataError(
                f"{folder} is not in a git repository, and a version of data is a git revision",
                fix="git init, then commit the .dvc files",
            )
        self.root = Path(found.stdout.decode(errors="surrogateescape").rstrip("\n"))

    def commits(self, file: Path) -> list[Commit]:
        """Return the commits that changed `file` on the way to HEAD, newest first."""
        layout = _RECORD + _FIELD.join(("%H", "%cI", "%an", "%s"))
        log = self._run("log", f"--format={layout}", "--", self._inside(file))
        if log.returncode:  # no commit yet
            return []
        commits = []
        for record in log.stdout.decode(errors="replace").split(_RECORD)[1:]:
            revision, at, author, subject = record.rstrip("\n").split(_FIELD)
            commits.append(
                Commit(
                    revision=revision,
                    at=datetime.fromisoformat(at),
                    author=author,
                    subject=subject,
                )
            )
        return commits

    def revision(self, name: str) -> str | None:
        """Return the commit that `name` (a tag, a branch, HEAD~2, a hash) stands for, or None."""
        found = self._run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def read(self, revision: str, file: Path) -> str | None:
        """Return the text of `file` in that commit, or None where it was not there."""
        shown = self._run("show", f"{revision}:{self._inside(file)}")
        return shown.stdout.decode(errors="replace") if shown.returncode == 0 else None

    def uncommitted(self, files: list[Path]) -> set[Path]:
        """Return those of the files that differ from HEAD or are not in git."""
        if not files:
            return set()
        names = {self._inside(file): file for file in files}
        status = self._run("status", "--porcelain", "-z", "--untracked-files=all", "--", *names)
        lines = status.stdout.decode(errors="surrogateescape").split("\0")
        return {names[line[3:]] for line in lines if line[3:] in names}

    def _inside(self, file: Path) -> str:
        folder = os.path.relpath(os.path.realpath(file.parent), os.path.realpath(self.root))
        return os.path.normpath(f"{folder}/{file.name}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return _git(self.root, *arguments)


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  # a list and no shell; no option ends in ^{commit}
            ["git", "-C", str(folder), "--literal-pathspecs", *arguments],  # noqa: S607
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as e:
        raise UserError("git was not found", fix="install git") from e
