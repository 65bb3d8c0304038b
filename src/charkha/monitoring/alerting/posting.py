"""JSON posted to a destination of alerts; an address that is a secret is in no message."""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from charkha.errors import BackendError, Unavailable, UserError

_TIMEOUT_S = 10.0


def post(url: str, body: object, *, where: str, fix: str) -> None:
    """Post a body, and see that it is taken.

    Args:
        url: where to; it may hold a secret.
        body: what JSON can hold.
        where: what the destination is called in a message, in place of its address.
        fix: what to do where the address is none, or the destination refuses.

    Raises:
        UserError: it is no address.
        Unavailable: it does not answer, or says that it cannot now.
        BackendError: it refuses.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{where} is no address that starts with http:// or https://", fix=fix)
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    try:
        request = Request(url, data, headers)  # noqa: S310  # http(s), as looked at above
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read()
    except HTTPError as e:
        said = e.read()[:200].decode(errors="replace").strip()
        because = f"{e.code} {e.reason}" + (f": {said}" if said else "")
        if e.code >= 500 or e.code == 429:
            raise Unavailable(f"{where} has not taken it: {because}") from e
        raise BackendError(f"{where} refused it: {because}", fix=fix) from e
    except ValueError as e:  # `http://[::1`, a host that no name server could know
        raise UserError(f"{where} is no address that can be asked", fix=fix) from e
    except HTTPException as e:  # its text may be the address
        raise Unavailable(f"{where} does not answer as HTTP has it: {type(e).__name__}") from e
    except OSError as e:
        raise Unavailable(f"{where} does not answer: {e}") from e
