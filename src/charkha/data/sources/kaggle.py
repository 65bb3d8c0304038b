"""A dataset on Kaggle, over its public HTTP API with the user's own token.

The answer is a zip archive of the dataset's files (usually by a redirect to a store, to which the
token must not go). One file in it is the dataset; several are a folder.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request

from charkha.data.refusals import refused
from charkha.data.sources.https import download
from charkha.data.sources.port import Progress
from charkha.errors import BackendError, UserError
from charkha.project import resolve_secret

_ADDRESS = re.compile(r"kaggle://(?P<owner>[\w-]+)/(?P<dataset>[\w.-]+)/?", re.ASCII)


class KaggleSource:
    """A DataSource of one Kaggle dataset, in its newest version."""

    def __init__(self, address: str, *, api: str = "https://www.kaggle.com/api/v1") -> None:
        """Take the address.

        Raises:
            UserError: it is not `kaggle://owner/dataset`.
        """
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise UserError(f"{address} names no dataset", fix="write kaggle://owner/dataset")
        self._dataset = f"{parts['owner']}/{parts['dataset']}"
        self._api = api
        self.origin = f"kaggle://{self._dataset}"
        self.file_name = parts["dataset"]

    def fetch(self, into: Path, progress: Progress) -> Path:
        archive = into / "archive.zip"
        request = Request(f"{self._api}/datasets/download/{self._dataset}")  # noqa: S310
        user, key = _credentials()
        token = base64.b64encode(f"{user}:{key}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
        try:
            download(request, archive, progress, shown=self.origin)
        except BackendError as e:
            if isinstance(e.__cause__, HTTPError) and e.__cause__.code in (401, 403):
                raise BackendError(
                    f"Kaggle refused {user!r} for {self._dataset}",
                    fix="check the token, and accept the dataset's terms on its page",
                ) from e
            raise
        return _unpack(archive, into / self.file_name, self.origin)


def _credentials() -> tuple[str, str]:
    """Return the user and the key: from the environment, else from the file that Kaggle offers."""
    file = Path.home() / ".kaggle" / "kaggle.json"
    try:
        return resolve_secret("env:KAGGLE_USERNAME"), resolve_secret("env:KAGGLE_KEY")
    except UserError as missing:
        fix = f"put the token from your Kaggle settings at {file}, or set KAGGLE_USERNAME and KAGGLE_KEY"
        try:
            token = json.loads(file.read_text())
            return str(token["username"]), str(token["key"])
        except FileNotFoundError:
            raise UserError("Kaggle wants to know who asks", fix=fix) from missing
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(f"{file} is no Kaggle token: {e!r}", fix=fix) from e


def _unpack(archive: Path, folder: Path, shown: str) -> Path:
    try:
        with zipfile.ZipFile(archive) as zipped:
            wanted = sum(entry.file_size for entry in zipped.infolist())
            free = shutil.disk_usage(archive.parent).free
            if wanted > free:
                raise UserError(f"{shown} unpacks to {wanted:,} bytes, and {free:,} are free")
            zipped.extractall(folder)  # it keeps names inside the folder by itself
    except (zipfile.BadZipFile, NotImplementedError) as e:
        raise BackendError(f"{shown} did not send a zip archive: {e}", fix="try again") from e
    except OSError as e:
        raise refused(e, str(folder)) from e
    archive.unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return files[0] if len(files) == 1 else folder


if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource

    _: DataSource = KaggleSource("")
