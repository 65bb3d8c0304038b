"""DVC: the project's repository, its cache and its remote, behind our words and errors.

Its Python API and not its command: the errors come typed instead of as text, one import (0.4 s) serves
several operations instead of one process each, and DVC's telemetry lives in its command alone, so
nothing is sent. What is written are ordinary files: `dvc pull` works in a clone without Charkha.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from dvc.config import ConfigError
from dvc.config_schema import RelPath
from dvc.exceptions import (
    CheckoutError,
    ConfirmRemoveError,
    DvcException,
    FileTransferError,
    NotDvcRepoError,
)
from dvc.lock import LockError
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_objects.fs.errors import AuthError, RemoteMissingDepsError

from charkha.data.git import Git
from charkha.data.late import late
from charkha.data.pointers import Pointer
from charkha.data.refusals import refused
from charkha.errors import (
    BackendError,
    CharkhaError,
    Damaged,
    DataError,
    MissingExtra,
    NotFound,
    Unavailable,
    UserError,
)

if TYPE_CHECKING:
    from charkha.project import Project

logger = logging.getLogger(__name__)
_LOGGERS = ("dvc", "dvc_data", "dvc_objects")


class Dvc:
    """The DVC repository of a project. Use it in a `with`: it holds caches that want closing."""

    def __init__(self, project: Project, *, create: bool = False) -> None:
        """Open the repository; `create` makes one where there is none.

        Raises:
            DataError: there is none, or the project is not in git.
        """
        self._project = project
        self._url = project.data.remote
        with self._translated():
            self._repo = self._open(create)
            self._remote, self._settings = self._choose_remote()
            self._url = self.remote_url

    def __enter__(self) -> Dvc:
        return self

    def __exit__(self, *_: object) -> None:
        self._repo.close()

    @property
    def remote_url(self) -> str:
        """Where `push` puts what it pushes: a folder or `s3://…`."""
        return str(self._repo.config["remote"][self._remote]["url"])

    def record_remote(self) -> None:
        """Write the remote into DVC's own config, where it is not, so that plain `dvc` knows it."""
        if not self._settings:
            return
        with self._translated():
            known = self._repo.config.load_one("repo")["remote"].get(self._remote, {})
            if all(str(known.get(key)) == str(value) for key, value in self._settings.items()):
                return
            ours = dict(self._settings)
            if Path(str(ours["url"])).is_relative_to(self._project.root):
                ours["url"] = RelPath(ours["url"])  # another clone lies elsewhere
            with self._repo.config.edit() as config:
                config["remote"][self._remote] = {**known, **ours}
                config["core"].setdefault("remote", self._remote)

    def add(self, path: Path, note: Mapping[str, object]) -> Path:
        """Take the file or folder at `path` into the cache; return its `.dvc` file.

        `note` is kept in the pointer's `meta`, with the md5 that it is about.
        """
        with self._translated():
            (stage,) = self._repo.add([str(path)])
            md5 = stage.outs[0].hash_info.value
            stage.meta = {**(stage.meta or {}), "charkha": {"md5": md5, **note}}
            stage.dump()
            return Path(stage.path)

    def push(self, pointers: list[Path]) -> int:
        """Copy what the pointers name to the remote; return how many files it did not have."""
        with self._translated():
            return int(self._repo.push([str(p) for p in pointers], remote=self._remote))

    def fetch(self, pointers: list[Pointer]) -> int:
        """Bring into the cache what the pointers name; return how many files had to come.

        Raises:
            NotFound: the remote does not have them either.
            Damaged: the remote has other bytes, or not all files of a folder.
        """
        absent = [pointer for pointer in pointers if self.cached(pointer) is None]
        if not absent:
            return 0
        count = self._pull([HashInfo(pointer.algorithm, pointer.md5) for pointer in absent])
        inside = [
            HashInfo(pointer.algorithm, md5)
            for pointer in absent
            for md5 in self._listed(pointer) or ()  # a folder's manifest comes without its files
        ]
        count += self._pull(inside) if inside else 0
        for pointer in absent:
            if self.cached(pointer) is None:  # DVC drops what is not what its name says, silently
                raise self._not_fetched(pointer)
        return count

    def checkout(self, pointers: list[Path]) -> None:
        """Put what the pointers name, which is in the cache, into the working copy.

        What is overwritten is lost: look first.
        """
        with self._translated():
            self._repo.checkout([str(pointer) for pointer in pointers], force=True)

    def remote_has(self, pointer: Pointer) -> bool:
        """Whether the remote has these bytes (of a folder: its manifest)."""
        with self._translated():
            store = self._repo.cloud.get_remote_odb(self._remote, hash_name=pointer.algorithm)
            return bool(store.exists(pointer.md5))

    def cached(self, pointer: Pointer) -> Path | None:
        """Return where the cache has these bytes (a folder's manifest, with all its files)."""
        path = self._cache_path(pointer, pointer.md5)
        inside = self._listed(pointer)
        if inside is None or not path.exists():
            return None
        whole = all(self._cache_path(pointer, md5).exists() for md5 in inside)
        return path if whole else None

    def _pull(self, hashes: list[HashInfo]) -> int:
        with self._translated():
            return len(self._repo.cloud.pull(hashes, remote=self._remote).transferred)

    def _listed(self, pointer: Pointer) -> list[str] | None:
        """Return the hashes of a folder's files; None where its manifest is not in the cache."""
        if not pointer.is_folder:
            return []
        try:
            manifest = json.loads(self._cache_path(pointer, pointer.md5).read_bytes())
        except (OSError, ValueError):  # not there, or torn
            return None
        return [str(file["md5"]) for file in manifest]

    def _cache_path(self, pointer: Pointer, md5: str) -> Path:
        legacy = pointer.algorithm != "md5"
        cache = self._repo.cache.legacy if legacy else self._repo.cache.local
        return Path(cache.oid_to_path(md5))

    def _open(self, create: bool) -> Repo:
        root = self._project.root
        try:
            return Repo(str(root))
        except NotDvcRepoError as e:
            if not create:
                raise DataError(
                    f"{root} has no DVC repository, so nothing was added to it yet",
                    fix="charkha data add FILE",
                ) from e
        Git(root)  # says what to do where there is none
        repo = Repo.init(str(root), subdir=True)
        with repo.config.edit() as config:
            config["core"]["analytics"] = False
        return repo

    def _choose_remote(self) -> tuple[str, dict[str, object]]:
        """Return the remote's name in DVC's config, and what charkha.toml says that it is.

        A DVC repository that was there before, in a project that names no remote, keeps its own.
        In any case what comes from it is verified, which DVC leaves out unless it is told.
        """
        data, config = self._project.data, self._repo.config
        name, ours = str(config["core"].get("remote") or ""), dict[str, object]()
        if not name or data.remote != str(self._project.state / "remote"):
            name = self._project.environment.lower()  # as DVC does
            ours = {"url": data.remote, "verify": True}
            if data.endpoint_url:
                ours["endpointurl"] = data.endpoint_url
        config["remote"][name] = {**config["remote"].get(name, {}), "verify": True, **ours}
        return name, ours

    def _not_fetched(self, pointer: Pointer) -> BackendError:
        shown = f"{pointer.path.name} {pointer.md5[:8]}"
        if self.remote_has(pointer):
            return Damaged(
                f"{self.remote_url} has not all of {shown}, or other bytes under its name",
                key=pointer.md5,
                fix="delete it there, then `charkha data push` where it was added",
            )
        return NotFound(
            f"{self.remote_url} does not have {shown}, and neither has this machine",
            fix="charkha data push, on the machine where it was added",
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn DVC's errors, and those of the store under it, into ours."""
        url = self._url
        with _heard() as causes:
            try:
                with _store_errors(url):
                    yield
            except (DvcException, RemoteMissingDepsError, AuthError) as e:
                raise _translate(e, url, causes) from (causes[-1] if causes else e)
            except OSError as e:
                raise refused(e, url) from e


def _store_errors(url: str) -> AbstractContextManager[None]:
    """S3's errors come through DVC as they are: hand them to the file that knows their names."""
    if not url.startswith("s3:"):
        return nullcontext()
    translated: AbstractContextManager[None] = late(
        "charkha.data.sources.s3", extra="s3"
    ).translated(url)
    return translated


def _translate(error: Exception, url: str, causes: list[BaseException]) -> CharkhaError:
    """Return our error for one of DVC's; `causes` are the exceptions that it logged before."""
    match error:
        case LockError():
            return Unavailable("another DVC process is at work here", fix="let it end, try again")
        case RemoteMissingDepsError():
            return MissingExtra(f"DVC's access to {url}", "s3")
        case FileTransferError():
            if causes and isinstance(causes[-1], OSError):
                return refused(causes[-1], url)
            return Unavailable(
                f"{url}: {error}", fix="try again: what was copied is not copied twice"
            )
        case CheckoutError():
            return NotFound(
                f"{url} does not have {_named(error.target_infos)}",
                fix="charkha data push, on the machine where it was added",
            )
        case ConfirmRemoveError():
            return DataError(f"{error}", fix="charkha data add it first, or use --force")
        case ConfigError():
            return UserError(str(error), fix="correct .dvc/config")
        case AuthError():
            return BackendError(f"{url} refused the credentials: {error}")
    return BackendError(f"DVC: {error}")


def _named(paths: list[str]) -> str:
    return ", ".join(os.path.relpath(path) for path in paths)


class _Causes(logging.Handler):
    """Keeps the exceptions that DVC logs, for it raises only how many files failed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.seen.append(record.exc_info[1])
        logger.debug("%s: %s", record.name, record.getMessage())


@contextmanager
def _heard() -> Iterator[list[BaseException]]:
    """Listen to DVC's loggers, which would print, and give them back as they were."""
    causes = _Causes()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.handlers, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [causes], False
    try:
        yield causes.seen
    finally:
        for each, (handlers, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
