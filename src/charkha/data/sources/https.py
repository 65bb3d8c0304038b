"""A file on the web, streamed to disk; plain http only from this machine itself."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from charkha.data.refusals import refused
from charkha.data.sources.port import Progress
from charkha.errors import BackendError, CharkhaError, NotFound, Unavailable, UserError

_CHUNK = 1 << 20
_TIMEOUT_S = 60.0  # of silence, not of the whole download
_SILENT = (TimeoutError, ConnectionError, ssl.SSLError)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HttpsSource:
    """A DataSource of one address."""

    def __init__(self, address: str) -> None:
        """Take the address.

        Raises:
            UserError: it is not encrypted, or has a user and a password in it.
        """
        parts = urlsplit(_encrypted(address))
        if parts.username or parts.password:
            raise UserError(
                f"the address on {parts.hostname} has a user in it, and would be written down",
                fix="download it with your own tool, then: charkha data add FILE",
            )
        self._address = address
        self.origin = urlunsplit(parts._replace(query="", fragment=""))  # a query may be signed
        self.file_name = Path(unquote(parts.path)).name or str(parts.hostname)

    def fetch(self, into: Path, progress: Progress) -> Path:
        target = into / self.file_name
        download(Request(self._address), target, progress, shown=self.origin)  # noqa: S310
        return target


def download(request: Request, target: Path, progress: Progress, *, shown: str) -> None:
    """Stream what `request` answers into `target`; `shown` is the address to name in errors.

    Raises:
        NotFound: 404 or 410.
        BackendError: any other refusal.
        Unavailable: no answer, an answer of 429 or 5xx, or fewer bytes than were announced.
    """
    request.add_header("User-Agent", "charkha")
    opener = build_opener(_Redirects)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer, target.open("wb") as file:
            announced = answer.headers.get("Content-Length")
            total = int(announced) if announced else None
            done = _copy(answer, file, total, progress)
    except HTTPError as e:
        e.close()  # it is the answer itself, and holds the connection
        raise _refusal(e, shown) from e
    except (URLError, http.client.HTTPException, *_SILENT) as e:
        raise _silence(e, shown) from e
    except OSError as e:
        raise refused(e, str(target)) from e
    if total is not None and done != total:
        target.unlink()
        raise Unavailable(f"{shown} broke off after {done:,} of {total:,} bytes", fix="try again")


def _copy(answer: IO[bytes], file: IO[bytes], total: int | None, progress: Progress) -> int:
    done = 0
    while chunk := answer.read(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        progress(done, total)
    return done


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to where the address itself might have pointed."""

    def redirect_request(  # urllib's signature
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        try:
            _encrypted(newurl)
        except UserError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _encrypted(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise UserError(
            f"http://{parts.hostname} is not encrypted: what comes may be anybody's",
            fix="use https://",
        )
    return address


def _refusal(error: HTTPError, shown: str) -> CharkhaError:
    said = f"{shown} answered {error.code} {error.reason}"
    if error.code in (404, 410):
        return NotFound(said, fix="correct the address")
    if error.code == 429 or error.code >= 500:
        return Unavailable(said, fix="try again later")
    return BackendError(said, fix="check that the address is open to you")


def _silence(error: Exception, shown: str) -> CharkhaError:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return BackendError(f"{shown} has no valid certificate: {reason.verify_message}")
    return Unavailable(f"{shown} did not answer: {reason or type(error).__name__}", fix="try again")


if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource

    _: DataSource = HttpsSource("")
