"""The documentation of a server: its OpenAPI document, the page at `/docs`, and what is not there."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from charkha import __version__
from charkha.serving.dialects.refusals import Refusal
from charkha.serving.discovery import Discovery
from charkha.serving.openapi import document
from charkha.serving.page import page
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.variants import Switch

_ALONE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


def make_documentation(switch: Switch) -> FastAPI:
    """Return the application for what no other route answers; made again when the routes change.

    It describes the features of the first variant that takes requests, and needs nothing from
    another server.
    """
    described = document(switch.routes)
    title = described["info"]["title"]
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None)
    known = Discovery(switch, lambda: True).answer

    def openapi() -> dict[str, Any]:
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's way to have one's own

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page(described), headers={"content-security-policy": _ALONE})

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        path, status = request.url.path, HTTPStatus(error.status_code)
        headers = {**(error.headers or {})}
        if status == HTTPStatus.NOT_FOUND and known(path) is not None:
            status, headers = HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "GET, HEAD"}
        said = f"there is no {request.method} {path}; /docs tells what there is"
        kind = status.phrase.lower().replace(" ", "-")
        problem = Refusal.of(Problem(status.value, kind, status.phrase, said), path)
        return JSONResponse(
            problem.as_json(),
            status_code=problem.status,
            headers=headers,
            media_type="application/problem+json",
        )

    return app
