"""`charkha doctor`: what is missing here, and the line that repairs it."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Literal
from urllib.parse import unquote

from charkha.cli import show
from charkha.cli.arguments import parser
from charkha.data.blobs import open_blobs
from charkha.data.late import late
from charkha.errors import DONE, YOU, CharkhaError, ProjectError
from charkha.models.registries.sqlite import SqliteRegistry
from charkha.models.registry import list_versions
from charkha.pipeline.distributions import extras
from charkha.pipeline.inotify import Watch
from charkha.project import FILE, Project, ledger_address, open_project

_LOW_DISK_BYTES = 2_000_000_000  # a run's artifacts and MLflow's copies of a few models
_MARKS = {"fine": "✓", "missing": "✗", "absent": "-"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["fine", "missing", "absent"]  # absent: it is not there, and nobody needs it
    says: str
    fix: str | None = None


def main(arguments: list[str]) -> int:
    """Run `charkha doctor`; exit with 1 when something that is needed is missing."""
    given = parser("doctor", example="charkha doctor --env prod").parse_args(arguments)
    findings = list(examine(given.env))
    if given.json:
        show.as_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{_MARKS[finding.state]} {finding.name:{width}}  {finding.says}")
            if finding.fix:
                print(f"  {'':{width}}  → {finding.fix}")
    return YOU if any(finding.state == "missing" for finding in findings) else DONE


def examine(environment: str | None = None) -> Iterator[Finding]:
    """Look at this machine, and at the project around the current folder where there is one."""
    yield Finding(name="python", state="fine", says=f"{sys.version.split()[0]} ({sys.executable})")
    yield _git()
    try:
        project = open_project(environment=environment)
    except ProjectError as e:
        no_project = FILE in e.what and "nor in a folder above" in e.what
        yield Finding(
            name="project",
            state="absent" if no_project else "missing",
            says=e.what.partition(": ")[2] if no_project else e.what,
            fix=e.fix,
        )
        yield from _extras()
        return
    yield Finding(
        name="project",
        state="fine",
        says=f"{project.name}, environment {project.environment} ({project.root / FILE})",
    )
    s3 = any(
        where.startswith("s3://")
        for where in (project.blobs.url, project.data.remote, project.tracking.artifacts)
    )
    postgresql = any(
        address.startswith("postgresql") for address in (project.tracking.uri, _ledger_of(project))
    )
    yield from _extras(s3=s3, postgresql=postgresql)
    yield _disk(project)
    yield _blobs(project)
    yield _tracking(project)
    yield _ledger(project)
    yield _native_reads(project)


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding(
            name="git",
            state="missing",
            says="is not installed, and versions of data are git revisions",
            fix="install git, for example: apt-get install git",
        )
    version = _said("git", "--version").removeprefix("git version ")
    name, email = (_said("git", "config", f"user.{key}") for key in ("name", "email"))
    if not email:
        return Finding(
            name="git",
            state="missing",
            says=f"{version}, but it does not know who you are, so you cannot commit",
            fix='git config --global user.name "…" && git config --global user.email "…"',
        )
    return Finding(name="git", state="fine", says=f"{version}, as {name} <{email}>")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def _extras(**wanted_here: bool) -> Iterator[Finding]:
    """Hold what is installed against the extras of our own metadata; versions are pip's affair."""
    offered = extras()
    local = offered.pop("local", set())
    needed = [extra for extra, names in offered.items() if names <= local]
    several = sum(any(not _installed(name) for name in offered[extra]) for extra in needed) > 1
    for extra, distributions in offered.items():
        lacking = ", ".join(sorted(name for name in distributions if not _installed(name)))
        if not lacking:
            yield Finding(name=extra, state="fine", says="installed")
        elif extra in needed or wanted_here.get(extra):
            wanted = "local" if several and extra in needed else extra
            yield Finding(
                name=extra,
                state="missing",
                says=f"not installed: {lacking}",
                fix=f"pip install 'charkha[{wanted}]'",
            )
        else:
            yield Finding(
                name=extra, state="absent", says=f"not needed here, not installed: {lacking}"
            )


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk(project: Project) -> Finding:
    free = shutil.disk_usage(project.root).free
    low = free < _LOW_DISK_BYTES
    return Finding(
        name="disk",
        state="missing" if low else "fine",
        says=f"{show.size(free)} free below {project.root}",
        fix=f"free some; {show.size(_LOW_DISK_BYTES)} keep a project going" if low else None,
    )


def _blobs(project: Project) -> Finding:
    probe = b"charkha doctor was here"
    try:
        store = open_blobs(project)
        store.remove(store.put(io.BytesIO(probe)))
    except (CharkhaError, OSError) as e:
        return _refused("blobs", f"{project.blobs.url} cannot be written", e)
    return Finding(name="blobs", state="fine", says=f"{project.blobs.url} can be written")


def _tracking(project: Project) -> Finding:
    try:
        versions = list_versions(project)
        moved_from = _moved_from(project)
    except (CharkhaError, OSError) as e:
        return _refused("tracking", "MLflow does not answer, so runs wait to be recorded", e)
    if moved_from is not None:
        return _moved(project, moved_from)
    return Finding(
        name="tracking",
        state="fine",
        says=f"{_without_password(project.tracking.uri)} has {len(versions)} model versions",
    )


def _ledger_of(project: Project) -> str:
    """Return the ledger's address; nothing where what it refers to is not there."""
    try:
        return ledger_address(project)
    except ProjectError:
        return ""


def _ledger(project: Project) -> Finding:
    """Whether decisions can be kept; a file of SQLite that is not there yet is made at its first use."""
    try:
        address = ledger_address(project)
        file = Path(address.removeprefix("sqlite:///").partition("?")[0])
        if address.startswith("sqlite:") and not file.exists():
            return Finding(name="ledger", state="fine", says=f"{file} is made at its first use")
        ledger = late("charkha.ledger", extra="mlflow").Ledger(address)
        try:
            said = f"{ledger.place} has {len(ledger.read())} decisions"
        finally:
            ledger.close()
    except (CharkhaError, OSError) as e:
        return _refused("ledger", "decisions and releases cannot be kept", e)
    return Finding(name="ledger", state="fine", says=said)


def _moved_from(project: Project) -> Path | None:
    """Return where the project was when MLflow kept the addresses of its files, if not here."""
    uri, artifacts = project.tracking.uri, Path(project.tracking.artifacts)
    database = Path(uri.removeprefix("sqlite:///"))
    if not all(path.is_relative_to(project.root) for path in (database, artifacts)):
        return None
    inside = f"/{artifacts.relative_to(project.root)}"
    for place in SqliteRegistry(uri).places(project.tracking.experiment):
        path = Path(unquote(place.removeprefix("file://")))
        here = any(p.is_relative_to(project.root) for p in (path, path.resolve()))  # or by a link
        if path.is_absolute() and not here:
            return Path(str(path).rpartition(inside)[0] or path)
    return None


def _moved(project: Project, was: Path) -> Finding:
    page = "«When a project was moved» in docs/how-to/tracking.md of Charkha"
    link = f"ln -s {quote(str(project.root))} {quote(str(was))}"
    if not was.parent.is_dir():
        link = f"mkdir -p {quote(str(was.parent))} && {link}"
    return Finding(
        name="tracking",
        state="missing",
        says=f"MLflow's files stand under {was}, where this project was: MLflow cannot load its "
        "models from here, and new runs write there",
        fix=f"see {page}" if os.path.lexists(was) else f"{link}; or for good: see {page}",
    )


def _refused(name: str, what: str, error: CharkhaError | OSError) -> Finding:
    why = error.what if isinstance(error, CharkhaError) else str(error)
    fix = error.fix if isinstance(error, CharkhaError) else None
    return Finding(
        name=name, state="missing", says=f"{what}: {why}", fix=fix or f"correct [{name}] in {FILE}"
    )


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", uri).partition("?")[0]


def _native_reads(project: Project) -> Finding:
    """Whether files that pyarrow or DuckDB open without being declared are seen."""
    watch = Watch.start(str(project.root), frozenset({".charkha", ".git", ".dvc", ".venv"}))
    if watch is None:
        return Finding(
            name="observing",
            state="absent",
            says="native code can open files unseen here: this platform has no inotify",
            fix="declare what steps read with File(…), Dir(…) or dataset(…)",
        )
    watch.close()
    if not watch.complete:
        return Finding(
            name="observing",
            state="missing",
            says="the project has more folders than the kernel lets us watch",
            fix="sysctl fs.inotify.max_user_watches=65536, or declare what steps read",
        )
    return Finding(name="observing", state="fine", says="files that steps open undeclared are seen")
