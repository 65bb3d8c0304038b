"""What a server should hold: its variants and their shares, and the file in which that stands.

The lead alone writes the file, whole or not at all. Every worker watches it, does what it says, and
writes a report beside it. So whoever is killed at any line comes up with the same state, and nobody
has to be asked: not the registry, not another process.
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from charkha.errors import Damaged, Refused, UserError

DEFAULT_SHARE = 100.0
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_NAME = re.compile(NAME)
_ASKED = re.compile(r"(?:(?P<name>[^:=]*):)?(?P<which>[^:=]+)(?:=(?P<share>.*))?")


@dataclass(frozen=True, kw_only=True)
class WantedVariant:
    """A version under a name."""

    name: str
    version: int
    package: str  # digest of the version's package, so that no worker has to ask the registry
    share: float = 0.0  # of the traffic, on the scale of the others'; 0 for a shadow
    shadow: bool = False
    follows: str | None = None  # an alias: when it moves in the registry, this variant does


Variants = tuple[WantedVariant, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A variant as a command line asks for it."""

    name: str
    which: str  # a version's number or an alias
    share: float = DEFAULT_SHARE
    shadow: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """All that a server should hold."""

    model: str
    server: str  # whose lead wrote it; workers of another one, which may yet drain, leave it alone
    generation: int  # of what the file says; each that is written has a higher one
    variants: Variants  # that take requests, or follow them
    coming: Variants | None = None  # to be loaded and checked now, and put in place later
    instead: Variants | None = None  # for a worker that starts and cannot load `variants`
    asked: tuple[Asked, ...] = ()  # by the command line with which all this began


@dataclass(frozen=True, kw_only=True)
class Held:
    """A variant that a worker holds."""

    name: str
    version: int
    shadow: bool
    share: float
    form: str  # "onnx" or "native"
    examples: int  # recorded ones that it answered as it should; 0: its package has none
    since: float  # unix seconds
    in_flight: int  # requests


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker says of itself."""

    worker: int
    pid: int
    generation: int  # the newest that it has dealt with
    failed: str | None  # why it could not do what that generation wants; it holds what it held
    variants: tuple[Held, ...]
    leaving: int  # variants whose last requests are being answered
    at: float  # unix seconds


class Files:
    """Where all of this lies: `MODEL.json`, a lock, and the reports of the workers."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self.wanted = folder / f"{model}.json"
        self.lock = folder / f"{model}.lock"
        self._reports = folder / f"{model}.workers"

    def report(self, server: str, worker: int) -> Path:
        """Where that worker of that server reports."""
        return self._reports / server / f"{worker}.json"

    def tidy(self) -> None:
        """Take away what workers of earlier servers have said, and what was never finished."""
        shutil.rmtree(self._reports, ignore_errors=True)
        for left in self.folder.glob(f".{glob.escape(self.wanted.name)}.*.partial"):
            left.unlink(missing_ok=True)


_Kind = TypeVar("_Kind", Wanted, Report)


def read(path: Path, kind: type[_Kind]) -> _Kind | None:
    """Return what a file says; None if there is none.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:  # no power cut leaves half of one
        raise Damaged(f"{path} cannot be read: {e}", key=str(path), fix="remove it") from e


def write(path: Path, value: Wanted | Report) -> None:
    """Write a file, whole or not at all; what a server should hold survives a power cut too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lasting = isinstance(value, Wanted)
    text = msgspec.json.encode(value)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False
    ) as partial:
        try:
            partial.write(msgspec.json.format(text, indent=1) + b"\n" if lasting else text)
            partial.flush()
            if lasting:
                os.fsync(partial.fileno())
            os.replace(partial.name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial.name)
            raise
    if lasting:
        _sync(path.parent)


def take_lock(files: Files) -> IO[str]:
    """Take the lead of a model's server in this folder, until the file is closed.

    The kernel frees it when the process dies; a process that was forked off does not hold it.

    Raises:
        Refused: another process has it.
    """
    files.folder.mkdir(parents=True, exist_ok=True)
    held = files.lock.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        held.seek(0)
        pid = held.read().strip() or "another"
        held.close()
        raise Refused(
            f"{files.model!r} is served from {files.folder} already, by process {pid}",
            fix="change that server over its administration API, or keep this one's state "
            "in a folder of its own",
        ) from e
    held.truncate(0)
    held.write(f"{os.getpid()}\n")
    held.flush()
    return held


def read_asked(text: str, *, shadow: bool = False) -> Asked:
    """Return what `champion=90`, `3=10` or `canary:4=5` asks for; of a shadow `next:4`.

    Raises:
        UserError: it says nothing that can be done.
    """
    example = "--shadow challenger, or --shadow next:4" if shadow else "--variant champion=90"
    match = _ASKED.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is no variant", fix=f"write {example}")
    which, share = match["which"].strip(), match["share"]
    by_default = f"v{which}" if which.isdigit() else which
    name = by_default if match["name"] is None else match["name"].strip()
    if not is_name(name):
        raise UserError(f"a variant cannot be called {name!r}", fix=f"write NAME:{which}={share}")
    if shadow:
        if share is not None:
            raise UserError(f"{text!r}: a shadow has no share", fix=f"--shadow {name}:{which}")
        return Asked(name=name, which=which, share=0.0, shadow=True)
    try:
        part = DEFAULT_SHARE if share is None else float(share)
    except ValueError:
        part = -1.0
    if not 0 <= part < float("inf"):
        raise UserError(f"{text!r}: {share!r} is no share", fix=f"write {example}")
    return Asked(name=name, which=which, share=part)


def is_name(name: str) -> bool:
    """Whether a variant may be called so: it is a label of metrics and part of folders' names."""
    return _NAME.fullmatch(name) is not None


def lanes(variants: Iterable[WantedVariant]) -> set[tuple[str, int, str, bool]]:
    """Return what has to be loaded for variants; two that differ in shares only have the same."""
    return {(v.name, v.version, v.package, v.shadow) for v in variants}


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
