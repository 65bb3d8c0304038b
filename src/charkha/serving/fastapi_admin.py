"""The administration of a server over HTTP: which versions it holds, and their shares of the traffic.

Made for a port of its own. A change is answered once every worker has carried it out, or with the
reason why nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from charkha import __version__
from charkha.errors import BackendError, CharkhaError, Refused, UserError
from charkha.serving.changes import Impossible
from charkha.serving.problems import SCHEMA as PROBLEM
from charkha.serving.problems import Problem
from charkha.serving.wanted import DEFAULT_SHARE, NAME, Asked

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from charkha.serving.lead import Lead

MOST_BYTES = 1 << 16  # of a body
_OPEN = ("/docs", "/openapi.json")  # say nothing about this server
_STATUS = {"unknown": 404, "conflict": 409, "invalid": 422}
_TITLES = {
    400: "The request cannot be read",
    401: "Only with a token",
    404: "There is no such thing",
    405: "Method not allowed",
    409: "That cannot be done now",
    413: "The body is too large",
    415: "No such content type is read here",
    422: "The request is not right",
    503: "It was not done",
}
_WITH_BODY = (400, 401, 409, 413, 415, 422, 503)
_PROBLEMS = {"get": (401,), "put": _WITH_BODY, "post": _WITH_BODY, "delete": (401, 404, 409, 503)}

Share = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)]
Shares = Annotated[dict[str, Share], Field(min_length=1)]


class NewVariant(BaseModel):
    """A version to be held under a name; `version` or `alias` says which."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$", examples=["challenger"])]
    version: Annotated[int | None, Field(ge=1, lt=2**31, description="its number")] = None
    alias: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=255,
            examples=["challenger"],
            description="of the registry; the variant moves when the alias does",
        ),
    ] = None
    share: Annotated[Share | None, Field(description="on the scale of the others; 100 without")] = (
        None
    )
    shadow: Annotated[bool, Field(description="follows the others' requests, answers none")] = False

    def asked(self) -> Asked:
        """Return it as a command line would have it.

        Raises:
            Impossible: two of its fields do not go together.
        """
        if (self.version is None) == (self.alias is None):
            said = "give version or alias, and not both"
            raise Impossible(said, kind="invalid", field="version" if self.version else "alias")
        if self.alias is not None and self.alias.isdigit():
            raise Impossible("an alias is no number", kind="invalid", field="alias")
        if self.shadow and self.share:
            raise Impossible("a shadow has no share", kind="invalid", field="share")
        share = DEFAULT_SHARE if self.share is None else self.share
        return Asked(
            name=self.name,
            which=str(self.version) if self.alias is None else self.alias,
            share=0.0 if self.shadow else share,
            shadow=self.shadow,
        )


def make_admin(lead: Lead, *, tokens: Collection[str] = ()) -> FastAPI:
    """Return the application.

    Args:
        lead: that is administered.
        tokens: what `hashed` returns for each token that is let in; without any, everybody is.
    """
    app = FastAPI(
        title="Charkha, administration of a model server",
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_routes(app, lead)
    _add_problems(app)
    app.add_middleware(_Guard, tokens=tuple(tokens))
    document = app.openapi

    def openapi() -> dict[str, Any]:
        return _described(document(), guarded=bool(tokens))

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI has it be extended
    return app


def hashed(token: str) -> str:
    """Return what is kept of a token."""
    return sha256(token.encode()).hexdigest()


def _add_routes(app: FastAPI, lead: Lead) -> None:
    """Add what can be done; in threads, as each waits for the workers."""

    @app.get("/status", summary="What is wanted, what each worker holds, and what did not work")
    def status() -> dict[str, Any]:
        return lead.status()

    @app.put("/shares", summary="Share the traffic among the variants that answer")
    def shares(
        given: Annotated[Shares, Body(examples=[{"champion": 90, "challenger": 10}])],
    ) -> dict[str, Any]:
        lead.set_shares(given)
        return lead.status()

    @app.post("/variants", status_code=201, summary="Load, check and hold another version")
    def add(variant: NewVariant) -> dict[str, Any]:
        lead.add(variant.asked())
        return lead.status()

    @app.delete("/variants/{name}", summary="Hold a variant no longer, once it has answered")
    def drop(name: Annotated[str, Path(max_length=255)]) -> dict[str, Any]:
        lead.drop(name)
        return lead.status()


def _add_problems(app: FastAPI) -> None:
    """Have every error told as a problem, RFC 9457."""

    @app.exception_handler(RequestValidationError)
    async def misfit(request: Request, error: RequestValidationError) -> Response:
        return _response(_misfit(error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        title = _TITLES.get(error.status_code, "It was not done")
        headers = [(k.encode(), v.encode()) for k, v in (error.headers or {}).items()]
        return _response(
            Problem(error.status_code, "request", title, str(error.detail), headers=headers)
        )

    @app.exception_handler(CharkhaError)
    async def failed(request: Request, error: CharkhaError) -> Response:
        return _response(_problem(error))


def _problem(error: CharkhaError) -> Problem:
    said = error.what if error.fix is None else f"{error.what}; {error.fix}"
    if isinstance(error, Impossible):
        status = _STATUS[error.kind]
        errors = (
            [] if error.field is None else [{"detail": error.what, "pointer": _at(error.field)}]
        )
        return Problem(status, error.kind, _TITLES[status], said, errors)
    if isinstance(error, Refused):
        return Problem(409, "not-taken", "A worker cannot take it; nothing has changed", said)
    if isinstance(error, BackendError):
        again = [(b"retry-after", b"5")]
        return Problem(503, "not-done", _TITLES[503], said, headers=again)
    if isinstance(error, UserError):
        return Problem(409, "refused", _TITLES[409], said)
    return Problem(500, "internal-error", "The server failed", "the server's log says why")


def _misfit(error: RequestValidationError) -> Problem:
    """Return what is wrong with a request, without a word of what it said."""
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return Problem(400, "malformed-json", "The body is no JSON", "send a JSON object")
    errors = [{"detail": str(each["msg"]), "pointer": _at(*each["loc"][1:])} for each in found]
    first = errors[0]
    place = first["pointer"].removeprefix("#/")
    return Problem(
        422, "invalid", _TITLES[422], f"{place}: {first['detail']}".removeprefix("#: "), errors
    )


def _at(*place: object) -> str:
    """Return a JSON pointer (RFC 6901) as a fragment."""
    return "#" + "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in place)


def _response(problem: Problem) -> Response:
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(
        json.dumps(problem.as_json()),
        problem.status,
        {**headers, "cache-control": "no-store"},
        "application/problem+json",
    )


class _Guard:
    """Lets in who has a token, and no body that is too large: before anything of it is read."""

    def __init__(self, app: ASGIApp, tokens: tuple[str, ...]) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._refusal(scope["method"], scope["path"], dict(scope["headers"]))
        if problem is not None:
            await _response(problem)(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)

    def _refusal(self, method: str, path: str, headers: dict[bytes, bytes]) -> Problem | None:
        if self._tokens and path not in _OPEN:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            given = sha256(token.strip()).hexdigest()
            known = [compare_digest(given, kept) for kept in self._tokens]  # all, in the same time
            if scheme.lower() != b"bearer" or not any(known):
                return _NO_TOKEN
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MOST_BYTES:
            return _TOO_LARGE
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # Any web page can have its reader's browser send something else, but not this.
        if method in ("PUT", "POST") and kind != b"application/json":
            return _NO_JSON
        return None


def _limited(receive: Receive) -> Callable[[], Any]:
    """Return `receive` for a body of limited size, whatever its headers promise."""
    left = MOST_BYTES

    async def limited() -> Any:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, _TOO_LARGE.detail)
        return message

    return limited


_TOO_LARGE = Problem(413, "too-large", _TITLES[413], f"{MOST_BYTES:,} bytes are taken")
_NO_JSON = Problem(
    415, "unsupported-type", _TITLES[415], "send content-type: application/json; curl: --json"
)
_NO_TOKEN = Problem(
    401,
    "no-token",
    _TITLES[401],
    "send authorization: Bearer TOKEN, with the administration's token",
    headers=[(b"www-authenticate", b"Bearer")],
)


def _described(document: dict[str, Any], *, guarded: bool) -> dict[str, Any]:
    """Have the OpenAPI document say what every error looks like, and that there is a token."""
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for made_up in ("HTTPValidationError", "ValidationError"):
        schemas.pop(made_up, None)
    schemas["Problem"] = PROBLEM
    told = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in document["paths"].values():
        for method, operation in path.items():
            answers = {k: v for k, v in operation["responses"].items() if int(k) < 400}
            for status in _PROBLEMS[method]:
                answers[str(status)] = {"description": _TITLES[status], "content": told}
            operation["responses"] = answers
    if guarded:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document
