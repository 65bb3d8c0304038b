"""Any registry that MLflow itself can reach, asked in a process of its own: seconds, not ms."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.errors import BackendError, Unavailable
from charkha.models.registries.port import ModelVersion

_TIMEOUT_S = 60.0  # importing MLflow takes 7 s on two busy cores


class ProcessRegistry:
    """A Registry behind the tracking URI `uri`, whatever its scheme."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        command = [sys.executable, "-m", "charkha.models.registries.process"]
        asked = json.dumps({"uri": self._uri, "name": name})  # not in argv: a URI has a password
        try:
            answer = subprocess.run(  # noqa: S603  # our own interpreter and module
                command,
                input=asked,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise Unavailable(f"the model registry did not answer in {_TIMEOUT_S:.0f} s") from e
        if answer.returncode != 0:
            said = answer.stderr.strip().splitlines() or ["no reason was given"]
            raise Unavailable(f"the model registry does not answer: {said[-1]}")
        told = json.loads(answer.stdout.splitlines()[-1])
        if "refused" in told:
            raise (Unavailable if told["again"] else BackendError)(told["refused"], fix=told["fix"])
        return [ModelVersion(**{**v, "aliases": tuple(v["aliases"])}) for v in told["versions"]]


def _answer(asked: str) -> str:
    """Return the versions that `asked` (JSON with `uri` and `name`) is after, as JSON."""
    wanted = json.loads(asked)
    mlflow = import_module("charkha.models.mlflow")  # this process exists to pay for it
    try:
        found = mlflow.MlflowRegistry(wanted["uri"]).versions(wanted["name"])
    except BackendError as e:
        again = isinstance(e, Unavailable)
        return json.dumps({"refused": e.what, "fix": e.fix, "again": again})
    return json.dumps({"versions": [version._asdict() for version in found]})


if __name__ == "__main__":
    sys.stdout.write(_answer(sys.stdin.read()) + "\n")

if TYPE_CHECKING:
    from charkha.models.registries.port import Registry

    _: Registry = ProcessRegistry("")
