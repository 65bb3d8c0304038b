"""API keys: a file with the digest of each, which models and what it opens, read again as it changes.

A key is 256 random bits, so its plain SHA-256 tells nothing about it and needs neither salt nor
stretching. Who asks cannot choose the digest that is looked up, so a look-up tells nothing by the
time that it takes.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from charkha.errors import UserError
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Headers

Scope = Literal["predict", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = ("predict", "feedback", "admin")
ALL_MODELS = "*"
_BEGINS = "charkha_"  # so that a scanner for secrets finds one that got into git
_VERSION = 1
_NEVER = float("inf")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is kept of an API key; dates are ISO 8601 in UTC."""

    id: str  # stands in the records of what was asked with it
    name: str
    sha256: str  # of the whole key
    models: tuple[str, ...]  # names, or "*" for all
    scopes: tuple[Scope, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None

    @property
    def state(self) -> str:
        """What it is worth now: "valid", "expired" or "revoked"."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if time.time() < _unix(self.expires) else "expired"


class Keys:
    """The keys of one file, for a server. `allowed` costs about a microsecond.

    Args:
        file: what `add_key` writes.

    Raises:
        UserError: the file is not there, is broken, or has no key that is valid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = _stamp(file)
        self._take(read_keys(file))
        if not any(key.state == "valid" for key, _ in self._known.values()):
            raise UserError(f"{file} has no valid key", fix="charkha keys add NAME")

    def allowed(self, headers: Headers, model: str, scope: Scope = "predict") -> str:
        """Return the id of the key in `authorization: Bearer …` or `x-api-key`.

        Raises:
            Problem: 401 without a valid key, 403 where the key does not open this.
        """
        sent = headers.get(b"x-api-key")
        if sent is None:
            kind, _, sent = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer":
                raise _MISSING
        found = self._known.get(sha256(sent.strip()).digest())
        if found is None:
            raise _UNKNOWN
        key, expires = found
        if time.time() >= expires:
            raise _ended(key)
        if scope not in key.scopes or (model not in key.models and ALL_MODELS not in key.models):
            raise _closed(model, scope)
        return key.id

    def refresh(self) -> None:
        """Read the file again if it has changed; to be called each second.

        A file that is gone or broken changes nothing, and the log says so.
        """
        seen = _stamp(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(read_keys(self._file))
        except UserError as e:
            _log.error("the API keys stay as they were: %s", e.what)
        else:
            _log.info("the API keys have changed: %d valid", self._valid())

    def _take(self, keys: Iterable[Key]) -> None:
        self._known = {
            bytes.fromhex(key.sha256): (key, 0.0 if key.revoked else _unix(key.expires))
            for key in keys
        }

    def _valid(self) -> int:
        return sum(key.state == "valid" for key, _ in self._known.values())


def keys_for(setting: str, host: str, file: Path) -> Keys | None:
    """Return the keys that a server on this address asks for, None where it asks for none.

    Args:
        setting: [serving] auth: "off", "required", or "auto", which is off on loopback alone.
        host: the address that it listens on.
        file: [serving] keys.

    Raises:
        UserError: keys are required, and there are none.
    """
    if setting == "off" or (setting == "auto" and is_loopback(host)):
        return None
    try:
        return Keys(file)
    except UserError as e:
        where = "[serving] auth" if setting == "required" else f"what listens on {host}"
        raise UserError(f"{where} requires API keys: {e.what}", fix=e.fix) from e


def is_loopback(host: str) -> bool:
    """Whether only this machine itself reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(file: Path) -> list[Key]:
    """Return all keys of a file, also those that are revoked or have expired.

    Raises:
        UserError: it is not there, somebody else may write to it, or it is broken.
    """
    try:
        if file.stat().st_mode & 0o002:
            raise UserError(f"everybody may write to {file}", fix=f"chmod 600 {file}")
        told = json.loads(file.read_bytes())
        if told["charkha_keys"] != _VERSION:
            raise UserError(f"{file} was written by a later Charkha", fix="pip install -U charkha")
        return [_key(given) for given in told["keys"]]
    except FileNotFoundError as e:
        raise UserError(f"there is no {file}", fix="charkha keys add NAME") from e
    except OSError as e:
        raise UserError(f"{file} cannot be read: {e.strerror}", fix=f"chmod 600 {file}") from e
    except (ValueError, TypeError, KeyError) as e:
        raise UserError(
            f"{file} is no file of API keys: {e}", fix="restore it, or move it away and start anew"
        ) from e


def add_key(
    file: Path,
    name: str,
    *,
    models: Sequence[str],
    scopes: Sequence[Scope] = ("predict",),
    expires: datetime | None = None,
) -> tuple[Key, str]:
    """Make a key and keep its digest; return what is kept, and the key itself, for the only time."""
    text = _BEGINS + secrets.token_urlsafe(32)
    with _changing(file) as keys:
        taken = {key.id for key in keys}
        made = Key(
            id=next(i for i in iter(lambda: secrets.token_hex(4), "") if i not in taken),
            name=name,
            sha256=sha256(text.encode()).hexdigest(),
            models=tuple(models),
            scopes=tuple(scopes),
            created=_iso(datetime.now(UTC)),
            expires=None if expires is None else _iso(expires),
        )
        keys.append(made)
    return made, text


def revoke_key(file: Path, wanted: str) -> Key:
    """Make a key worthless, by its id, or by its name where one valid key alone has it.

    Raises:
        UserError: there is no such key, or there are several.
    """
    with _changing(file) as keys:
        found = [key for key in keys if key.id == wanted] or [
            key for key in keys if key.name == wanted and key.state == "valid"
        ]
        if not found:
            raise UserError(f"no valid key has the id or name {wanted!r}", fix="charkha keys list")
        if len(found) > 1:
            ids = ", ".join(key.id for key in found)
            raise UserError(f"several keys are called {wanted!r}", fix=f"take an id: {ids}")
        revoked = replace(found[0], revoked=found[0].revoked or _iso(datetime.now(UTC)))
        keys[keys.index(found[0])] = revoked
    return revoked


def expiry(text: str) -> datetime:
    """Return the moment that `90d`, `12h`, `2027-01-31` or `2027-01-31T12:00:00Z` means, in UTC.

    Raises:
        UserError: it is none of these, or it is past.
    """
    now = datetime.now(UTC)
    unit = {"h": "hours", "d": "days", "w": "weeks"}.get(text[-1:])
    with suppress(ValueError, OverflowError):
        if unit and text[:-1].isdecimal():
            until = now + timedelta(**{unit: int(text[:-1])})
        else:
            until = datetime.fromisoformat(text)
            until = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
        if until > now:
            return until
        raise UserError(f"{text} is past", fix="--expires 90d")
    raise UserError(f"{text!r} is no time", fix="--expires 90d, 12h or 2027-01-31")


@contextmanager
def _changing(file: Path) -> Iterator[list[Key]]:
    """Hold off others who change the file, and put what the list has become in its place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(file) if file.exists() else []
        yield keys
        partial = file.with_name(f"{file.name}.partial")
        told = {"charkha_keys": _VERSION, "keys": [asdict(key) for key in keys]}
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            json.dump(told, out, indent=1, ensure_ascii=False)
            out.flush()
            os.fsync(descriptor)
        os.replace(partial, file)
    finally:
        os.close(lock)


def _key(given: dict[str, Any]) -> Key:
    for name in ("models", "scopes"):
        names = given[name]
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise ValueError(f"{name} of key {given['id']} is a list of names")
    key = Key(**{**given, "models": tuple(given["models"]), "scopes": tuple(given["scopes"])})
    if len(bytes.fromhex(key.sha256)) != sha256().digest_size:
        raise ValueError(f"key {key.id} has no SHA-256")
    _unix(key.expires)
    return key


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _unix(moment: str | None) -> float:
    return _NEVER if moment is None else datetime.fromisoformat(moment).timestamp()


def _ended(key: Key) -> Problem:
    when = f"was revoked at {key.revoked}" if key.revoked else f"expired at {key.expires}"
    return Problem(
        401,
        "key-ended",
        "The API key is valid no longer",
        f"key {key.id} {when}; ask the server's owner for another",
        headers=_challenge(b"invalid_token"),
    )


def _closed(model: str, scope: Scope) -> Problem:
    return Problem(
        403,
        "key-not-allowed",
        "The API key does not open this",
        f"it has to be made with --model {model} --scope {scope}",
        headers=_challenge(b"insufficient_scope"),
    )


def _challenge(error: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header that RFC 6750 asks for."""
    return [(b"www-authenticate", b'Bearer realm="charkha", error="%s"' % error)]


_MISSING = Problem(
    401,
    "key-missing",
    "An API key is needed",
    "send it as `authorization: Bearer KEY` or `x-api-key: KEY`",
    headers=[(b"www-authenticate", b'Bearer realm="charkha"')],
)
_UNKNOWN = Problem(
    401,
    "key-unknown",
    "The API key is not known",
    "ask the server's owner for one",
    headers=_challenge(b"invalid_token"),
)
