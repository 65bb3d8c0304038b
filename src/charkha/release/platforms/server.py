"""Charkha's own model server, over its administration API, and its metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from charkha.errors import Refused, Unavailable, UserError
from charkha.release.platforms.port import Arm

if TYPE_CHECKING:
    from charkha.release.platforms.port import Platform

_TIMEOUT_S = 180.0  # a change is answered once every worker has loaded and checked a version
_FAILED = re.compile(
    r'^charkha_prediction_failures_total\{[^}]*version="(\d+)"[^}]*\} ([0-9.e+]+)', re.MULTILINE
)


class ServerPlatform:
    """A model server that runs.

    Args:
        admin: address of its administration API, `http://127.0.0.1:8001`.
        token: that the API asks for.
        server: address of the server, whose `/metrics` count the failures.
    """

    def __init__(self, admin: str, token: str | None, server: str) -> None:
        self._admin, self._token, self._server = admin.rstrip("/"), token, server.rstrip("/")

    def holds(self) -> tuple[Arm, ...]:
        status = self._ask("GET", "/status")
        try:
            for worker in status["workers"]:
                if worker["alive"] and not worker["done"] and worker.get("failed") is None:
                    raise Unavailable(f"worker {worker['worker']} is still at the last change")
            return tuple(map(_arm, status["variants"]))
        except (KeyError, TypeError, AttributeError) as e:
            raise self._unreadable(f"{self._admin}/status", e) from e

    def add(self, name: str, version: int, *, shadow: bool) -> None:
        if self._has(name, version, shadow=shadow):
            return
        wanted: dict[str, object] = {"name": name, "version": version, "shadow": shadow}
        if not shadow:
            wanted["share"] = 0
        try:
            self._ask("POST", "/variants", wanted)
        except Refused:
            if not self._has(name, version, shadow=shadow):  # else somebody else was faster
                raise

    def set_shares(self, shares: Mapping[str, float]) -> None:
        nothing = {arm.name: 0.0 for arm in self.holds() if not arm.shadow}
        self._ask("PUT", "/shares", {**nothing, **shares})

    def drop(self, name: str) -> None:
        if name in {arm.name for arm in self.holds()}:
            self._ask("DELETE", f"/variants/{quote(name)}")

    def failures(self) -> Mapping[int, int]:
        address = f"{self._server}/metrics"
        text = self._open(address).decode(errors="replace")
        if "\n# EOF" not in text and "# TYPE charkha_" not in text:
            raise self._unreadable(address, "it has none of the server's metrics")
        found: dict[int, int] = {}
        for version, count in _FAILED.findall(text):
            found[int(version)] = found.get(int(version), 0) + int(float(count))
        return found

    def _has(self, name: str, version: int, *, shadow: bool) -> bool:
        return (name, version, shadow) in {(a.name, a.version, a.shadow) for a in self.holds()}

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        address = f"{self._admin}{path}"
        said = self._open(address, data, headers, method)
        try:
            told: dict[str, Any] = json.loads(said)
        except ValueError as e:
            raise self._unreadable(address, e) from e
        return told

    def _unreadable(self, address: str, why: object) -> Unavailable:
        return Unavailable(
            f"what {address} answers is not what a model server says: {why}",
            fix="see what listens there, or correct [release] admin and server in charkha.toml",
        )

    def _open(
        self,
        address: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> bytes:
        try:
            request = Request(address, data, dict(headers or {}), method=method)  # noqa: S310
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # as the settings say
                said: bytes = answer.read()
                return said
        except HTTPError as e:
            raise _translated(e) from e
        except ValueError as e:  # `http://[::1`, a host that no name server could know
            raise UserError(
                f"{address} is no address that can be asked: {e}",
                fix='[release] admin = "http://127.0.0.1:8001" and server in charkha.toml',
            ) from e
        except (OSError, HTTPException) as e:
            raise Unavailable(
                f"the server at {address} does not answer: {e}",
                fix="charkha serve --admin-port 8001, or correct [release] admin in charkha.toml",
            ) from e


def _arm(variant: Mapping[str, Any]) -> Arm:
    return Arm(
        name=variant["name"],
        version=variant["version"],
        share=variant["part"] * 100,
        shadow=variant["shadow"],
        follows=variant["follows"],
    )


def _translated(error: HTTPError) -> Unavailable | UserError:
    try:
        said = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError):
        said = str(error)
    if error.code in (401, 403):
        return UserError(
            f"the administration API wants its token: {said}",
            fix='[serving] admin_token = "env:NAME" for the server and for the release',
        )
    if error.code >= 500 or error.code == 429:
        return Unavailable(f"the server has not done it: {said}")
    return Refused(f"the server refused: {said}")


if TYPE_CHECKING:
    _platform: Platform = ServerPlatform("http://127.0.0.1:8001", None, "http://127.0.0.1:8000")
