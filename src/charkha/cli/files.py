"""Files that a person asks for with `--out`: written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from charkha.errors import UserError


def write_file(file: str, data: bytes, *, make_folder: bool = False) -> None:
    """Write all of it or nothing; a link stays one, and what it leads to is written.

    A device or a pipe (`/dev/null`, `/dev/stdout`) is written to and never replaced, which who is
    root may do.

    Args:
        file: where to.
        data: what.
        make_folder: make the folder where it is missing.

    Raises:
        UserError: there is no such folder, or something else stands there.
    """
    path = Path(file)
    if path.is_dir():
        raise UserError(f"{file} cannot be written: it is a folder", fix="name a file")
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except (NotADirectoryError, FileExistsError) as e:
        what = f"{file} cannot be written: it lies below a file, which is no folder"
        raise UserError(what, fix="name another file") from e
    except FileNotFoundError as e:
        raise UserError(f"there is no folder {path.parent}", fix=f"mkdir -p {path.parent}") from e
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
