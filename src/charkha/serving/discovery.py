"""What the protocols ask besides predictions: whether it is ready, and what goes in and comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from charkha import __version__
from charkha.serving.dialects.inference_v2 import inputs_of, outputs_of
from charkha.serving.dialects.refusals import Refusal
from charkha.serving.problems import Problem

if TYPE_CHECKING:
    from charkha.serving.dialects.port import Sent
    from charkha.serving.loading import ServedModel
    from charkha.serving.variants import Switch

Answer = tuple[int, bytes, "Sent"]
EXTENSIONS = ("binary_tensor_data",)  # of the Open Inference Protocol
_JSON: Sent = [(b"content-type", b"application/json")]
_TEXT: Sent = [(b"content-type", b"text/plain; charset=utf-8")]


class Discovery:
    """Answers the GET routes of MLflow's scoring server and of the Open Inference Protocol.

    Args:
        switch: which versions are held.
        ready: whether requests are answered now.
    """

    def __init__(self, switch: Switch, ready: Callable[[], bool]) -> None:
        self._switch, self._ready = switch, ready

    def answer(self, path: str) -> Answer | None:
        """Return the answer to GET on a path, None where no protocol has such a path."""
        match unquote(path).rstrip("/").split("/")[1:]:
            case ["ping"] | ["health"]:  # MLflow's says nothing, and SageMaker asks for it
                return 200 if self._ready() else 503, b"\n", _TEXT
            case ["version"]:
                return 200, __version__.encode(), _TEXT
            case ["v2"]:
                about = {"name": "charkha", "version": __version__, "extensions": EXTENSIONS}
                return _told(about)
            case ["v2", "health", "live"]:
                return _told({"live": True})
            case ["v2", "health", "ready"]:
                return self._told_ready({})
            case ["v2", "models", name, *rest]:
                return self._of_model(name, rest)
        return None

    def _of_model(self, name: str, rest: list[str]) -> Answer | None:
        version = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        if rest not in ([], ["ready"]):
            return None
        asks_ready = bool(rest)
        held = self._held(name, version)
        if held is None:
            versions = {str(v.model.version): v.model.name for v in self._switch.routes.live}
            said = f"it has {', '.join(f'{n} {v}' for v, n in versions.items()) or 'none yet'}"
            return _refused(404, "unknown-model", "This server does not hold that", said)
        if asks_ready:
            return self._told_ready({"name": name})
        return _told(self._metadata(held))

    def _held(self, name: str, version: str | None) -> ServedModel | None:
        routes = self._switch.routes
        if not routes.live or routes.live[0].model.name != name:
            return None
        variant = routes.live[0] if version is None else routes.of_version(version)
        return None if variant is None else variant.model

    def _metadata(self, model: ServedModel) -> dict[str, object]:
        versions = dict.fromkeys(str(v.model.version) for v in self._switch.routes.live)
        by_twin = model.predictor.form == "onnx"
        return {
            "name": model.name,
            "versions": list(versions),
            "platform": "onnxruntime_onnx" if by_twin else model.described["flavour"],
            "inputs": inputs_of(model),
            "outputs": outputs_of(model),
        }

    def _told_ready(self, about: dict[str, object]) -> Answer:
        ready = self._ready()
        return _told({**about, "ready": ready}, 200 if ready else 503)


def _told(document: object, status: int = 200) -> Answer:
    return status, json.dumps(document, ensure_ascii=False).encode(), _JSON


def _refused(status: int, kind: str, title: str, detail: str) -> Answer:
    problem = Refusal.of(Problem(status, kind, title, detail), "/v2")
    body = json.dumps(problem.as_json(), ensure_ascii=False).encode()
    return status, body, [(b"content-type", b"application/problem+json")]
