"""Airflow's REST API, version 2: signed in, asked and understood."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from charkha.errors import BackendError, NotFound, Unavailable, UserError
from charkha.project import read_secret

if TYPE_CHECKING:
    from charkha.project import Project

_TIMEOUT_S = 60.0  # of silence: an API server with one worker may be busy with something else
_TRIES = 3
_WAIT_S = 1.0
_PAGE = 100
Json = dict[str, Any]


class AirflowApi:
    """The API server that `[airflow] url` names."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.url = project.airflow.url.rstrip("/")
        self._token: str | None = None

    def sign_in(self) -> str:
        """Return a token.

        Raises:
            UserError: Airflow does not take what is known of the user.
            Unavailable: it does not answer.
        """
        settings = self._project.airflow
        token = read_secret(self._project, "airflow", "token")
        if token is not None:
            return token
        password = read_secret(self._project, "airflow", "password")
        try:
            if password is None:
                answer = self._once("GET", "/auth/token")
            else:
                known = {"username": settings.user, "password": password}
                answer = self._once("POST", "/auth/token", known)
        except HTTPError as e:
            if e.code not in (400, 401, 403, 404, 405, 422):
                raise self._refused(e) from e
            how = "without a password" if password is None else "with this password"
            raise UserError(
                f"Airflow at {self.url} does not let {settings.user!r} in {how} ({e.code})",
                fix='[airflow] user = "…" and password = "env:AIRFLOW_PASSWORD" in charkha.toml',
            ) from e
        return str(answer["access_token"])

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Json:
        """Ask for what may be asked for again; tries more than once.

        Raises:
            NotFound: there is no such thing.
            Unavailable: it does not answer.
        """
        for _ in range(_TRIES - 1):
            try:
                return self.ask("GET", path, query=query)
            except Unavailable:
                time.sleep(_WAIT_S)
        return self.ask("GET", path, query=query)

    def pages(self, path: str, key: str, query: Mapping[str, object]) -> Iterator[Json]:
        """Yield all that a list has, page by page."""
        offset = 0
        while True:
            page = self.get(path, {**query, "limit": _PAGE, "offset": offset})
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, object] | None = None,
    ) -> Json:
        """Ask once; signed in, and again where the token has become too old.

        Raises:
            BackendError: it refuses, or does not answer.
            UserError: the user may not do that.
        """
        path = f"/api/v2/{path}{f'?{urlencode(query)}' if query else ''}"
        kept = self._token is not None
        self._token = self._token or self.sign_in()
        try:
            return self._once(method, path, body)
        except HTTPError as e:
            if e.code == 401 and kept:
                self._token = self.sign_in()
                return self._again(method, path, body)
            raise self._refused(e) from e

    def _again(self, method: str, path: str, body: Json | None) -> Json:
        try:
            return self._once(method, path, body)
        except HTTPError as e:
            raise self._refused(e) from e

    def _once(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, headers, method=method)  # noqa: S310  # http(s): project.py
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                told: Json = json.load(answer)
                return told
        except HTTPError:
            raise
        except (OSError, HTTPException, ValueError) as e:  # ValueError: that was not JSON
            raise Unavailable(
                f"Airflow at {self.url} does not answer: {getattr(e, 'reason', e)}",
                fix="start it (airflow standalone), or correct [airflow] url in charkha.toml",
            ) from e

    def _refused(self, error: HTTPError) -> UserError | BackendError:
        what = f"Airflow at {self.url}"
        said = _detail(error)
        if error.code in (401, 403):
            who = "this token" if self._project.airflow.token else repr(self._project.airflow.user)
            return UserError(
                f"{what} refuses {who}: {said}", fix="give the user a role that may run DAGs"
            )
        if error.code == 404:
            return NotFound(f"{what} has nothing there: {said}")
        if error.code == 409:
            return Conflict(f"{what} has that already: {said}")
        if error.code == 429 or error.code >= 500:
            return Unavailable(f"{what} does not answer: {error.code} {said}")
        return BackendError(
            f"{what} refused it: {said}", fix="see that it is an Airflow 3, and look into its log"
        )


class Conflict(BackendError):
    """What was to be made is there already."""


def part(text: str) -> str:
    """Return a name as a part of a path."""
    return quote(text, safe="")


def _detail(error: HTTPError) -> str:
    """Return what the answer says about why, as one line."""
    try:
        text = error.read().decode(errors="replace")
    except (OSError, HTTPException):
        return error.reason
    try:
        told = json.loads(text)
    except ValueError:
        return error.reason
    detail = told.get("detail", told) if isinstance(told, dict) else told
    return detail if isinstance(detail, str) else json.dumps(detail)
