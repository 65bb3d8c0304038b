"""Files that we wrote, told by a digest in their first lines from those that a person changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from charkha.errors import UserError

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})?")
_SHOWN = 3  # files in a message


def is_ours(text: str) -> bool:
    """Whether a file is as we wrote it."""
    found = _DIGEST.search(text)
    return found is not None and found[1] is not None and found[1] == _digest(text)


def write(folder: Path, files: Mapping[str, str], *, force: bool) -> list[str]:
    """Write the files that are new or differ; return their names.

    Args:
        folder: is made where it is missing.
        files: text by path in the folder.
        force: whether files that a person changed are written over.

    Raises:
        UserError: a person has changed one, and nothing is written then; or no folder can be there.
    """
    try:
        return _write(folder, files, force=force)
    except (NotADirectoryError, FileExistsError, IsADirectoryError, FileNotFoundError) as e:
        raise UserError(
            f"{e.filename} cannot be written: {e.strerror}", fix="--out DIR writes elsewhere"
        ) from e


def _write(folder: Path, files: Mapping[str, str], *, force: bool) -> list[str]:
    found = {name: _read(folder / name) for name in files}
    changed = [
        name for name, text in found.items()
        if text is not None and text != files[name] and not is_ours(text)
    ]  # fmt: skip
    if changed and not force:
        raise UserError(
            f"somebody has changed {_listed(changed)} in {folder}, and it would be written over",
            fix="--out DIR writes elsewhere, --force writes over it",
        )
    written = [name for name, text in files.items() if found[name] != text]
    for name in written:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")  # who reads the folder sees no half of it
        partial.write_text(files[name], encoding="utf-8")
        partial.replace(path)
    return written


def stamped(text: str) -> str:
    """Return a text whose first `sha256:` is followed by the digest of all the rest."""
    return _DIGEST.sub(f"sha256:{_digest(text)}", text, count=1)


def _digest(text: str) -> str:
    """Return the digest of all but the digest itself."""
    return hashlib.sha256(_DIGEST.sub("sha256:", text, count=1).encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:  # not ours
        return ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
