"""What a file system or a store refused, in our errors: who has to act, and what to do."""

from __future__ import annotations

import errno
import os

from charkha.errors import BackendError, CharkhaError, NotFound, Unavailable, UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def refused(error: OSError, where: str) -> CharkhaError:
    """Translate what was said about `where`, a path or an address such as `s3://bucket/prefix`."""
    said = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    remote = "://" in where
    place = where if remote else str(error.filename or where)
    if error.errno in _FULL:
        return Unavailable(f"no space left for {place}", fix="free some disk space and try again")
    if remote and isinstance(error, PermissionError):
        return BackendError(f"{where} refused the credentials: {said}", fix=_credentials(where))
    if isinstance(error, PermissionError) or error.errno in _FORBIDDEN:
        return UserError(f"{place} is not permitted: {said}", fix=f"check the rights on {place}")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{place} does not exist: {said}")
    return Unavailable(f"{place} did not answer: {said}" if remote else f"{place}: {said}")


def _credentials(where: str) -> str:
    if where.startswith("s3:"):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`"
    return "check the user and its rights there"
