"""The OpenAPI 3.1 document of a server: its routes, with the features of the model that it serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from charkha import __version__
from charkha.serving.openapi_schemas import Schema, of_model, of_server, ref

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel
    from charkha.serving.variants import Routes

_TITLES = {
    400: "The request cannot be read",
    401: "An API key is needed",
    403: "The API key does not open this",
    404: "There is no such model or version",
    405: "Another method is needed",
    408: "The body took too long",
    413: "The body is too large, or has too many rows",
    415: "No such content type is read here",
    422: "What was sent does not fit",
    429: "Too many requests at once",
    500: "The server failed, and its log says why",
    503: "It cannot be done now",
}
_WITH_BODY = (400, 401, 403, 405, 408, 413, 422, 429, 500, 503)
_COME_AGAIN = (429, 503)
_JSON = "application/json"
_TABLES = ("application/vnd.apache.arrow.stream", "application/vnd.apache.parquet")
_BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
_TEXT: Schema = {"schema": {"type": "string"}}
_SECURITY: list[Schema] = [{}, {"bearer": []}, {"key": []}]  # {}: where no key is needed
_PARAMETERS: Schema = {
    "key": {
        "name": "charkha-key",
        "in": "header",
        "description": "who asks: the same key finds the same variant",
        "schema": {"type": "string"},
    },
    "entity": {
        "name": "charkha-entity",
        "in": "header",
        "description": "what the rows are about, for the records",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_]+=[^=,]*(,[A-Za-z0-9_]+=[^=,]*)*$"},
        "example": "customer=7,shop=3",
    },
}
_HEADERS: Schema = {
    "charkha-id": {
        "description": "the request's id, a UUIDv7, which its first row has as well",
        "schema": {"type": "string", "format": "uuid"},
        "required": True,
    },
    "retry-after": {"description": "seconds", "schema": {"type": "integer"}},
    "allow": {"description": "methods", "schema": {"type": "string"}},
}


def document(routes: Routes) -> Schema:
    """Return the document; the features are those of the first variant that takes requests."""
    title, version = "Charkha, a model server", __version__
    about = f"Served by Charkha {__version__}."
    paths, schemas = _beside(), of_server()
    if routes.live:
        model = routes.live[0].model
        title, version = model.name, str(model.version)
        held = ", ".join(f"{v.name}: version {v.model.version}" for v in routes.live)
        about = f"Predicts {model.described['target']} ({held}). {about}"
        paths = {**_predicting(model), **paths, **_metadata(model, routes)}
        schemas |= of_model(model)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": about},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {f"{status}": _problem(status) for status in _TITLES},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _predicting(model: ServedModel) -> Schema:
    infer = "/v2/models/{name}/infer"
    of_version = "/v2/models/{name}/versions/{version}/infer"
    return {
        "/predict": {"post": _predict(model)},
        "/invocations": {"post": _invocations(model)},
        infer: {"parameters": _names(model), "post": _infer("infer", "the variant's turn it is")},
        of_version: {
            "parameters": [*_names(model), _version([])],
            "post": _infer("infer_version", "this version"),
        },
    }


def _predict(model: ServedModel) -> Schema:
    row, header = ref("Row"), ",".join(model.schema.names)
    examples = {
        "one row": {"value": model.example[0]},
        "many rows": {"value": model.example},
    }
    rows = {"oneOf": [row, {"type": "array", "items": row, "minItems": 1}]}
    tables = {"text/csv": _TEXT, **dict.fromkeys(_TABLES, _BINARY)}
    return _posting(
        "predict",
        f"Predict {model.described['target']}",
        "One row is an object of features, many are a list of them, or a table: CSV with the header"
        f" `{header}`, an Arrow stream, Parquet. A table is answered with one of id, prediction"
        " and probabilities, or with JSON where `accept` says application/json.",
        {_JSON: {"schema": rows, "examples": examples}, **tables},
        {_JSON: {"schema": {"oneOf": [ref("Answer"), ref("Answers")]}}, **tables},
        (*_WITH_BODY, 415),
    )


def _invocations(model: ServedModel) -> Schema:
    example = {"records": {"value": {"dataframe_records": model.example[:1]}}}
    return _posting(
        "invocations",
        "Predict in the protocol of MLflow's scoring server",
        "Columns that the model does not take are ignored, a text may stand for a number, and NaN"
        " for no value.",
        {
            _JSON: {"schema": ref("Invocation"), "examples": example},
            "text/csv": _TEXT,
            "application/vnd.apache.parquet": _BINARY,
        },
        {_JSON: {"schema": ref("Predictions")}},
        (*_WITH_BODY, 415),
    )


def _infer(name: str, whom: str) -> Schema:
    made = _posting(
        name,
        f"Predict in the Open Inference Protocol: {whom}",
        "A tensor for each column, [n] or [n, 1], or one of all columns. Binary data stands behind"
        " the JSON, whose length is then in `inference-header-content-length`.",
        {_JSON: {"schema": ref("InferenceRequest")}, "application/octet-stream": _BINARY},
        {_JSON: {"schema": ref("InferenceResponse")}, "application/octet-stream": _BINARY},
        (*_WITH_BODY, 404),
    )
    length = {
        "name": "inference-header-content-length",
        "in": "header",
        "description": "bytes of the JSON, where binary data stands behind it",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {**made, "parameters": [*made["parameters"], length]}


def _posting(
    name: str, summary: str, about: str, content: Schema, answers: Schema, statuses: Iterable[int]
) -> Schema:
    """Return an operation that predicts."""
    told = {
        "description": "an answer for each row, in order",
        "headers": {"charkha-id": {"$ref": "#/components/headers/charkha-id"}},
        "content": answers,
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": about,
        "tags": ["predict"],
        "parameters": [{"$ref": f"#/components/parameters/{part}"} for part in _PARAMETERS],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": told, **_problems(statuses)},
        "security": _SECURITY,
    }


def _beside() -> Schema:
    """Return the routes that every server has."""
    anything: Schema = {_JSON: {"schema": {"type": "object"}}}
    nothing: Schema = {"text/plain": _TEXT}
    ready: Schema = {_JSON: {"schema": ref("Ready")}}
    metrics = {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}
    return {
        "/feedback": {"post": _feedback()},
        "/healthz": _get("healthz", "Whether the process lives", {200: anything}),
        "/readyz": _get("readyz", "Whether requests are answered", {200: anything, 503: anything}),
        "/metrics": _get("metrics", "Metrics for Prometheus", {200: metrics}),
        "/ping": _get("ping", "MLflow's name for /readyz", {200: nothing, 503: nothing}),
        "/version": _get("version", "The version of Charkha", {200: {"text/plain": _TEXT}}),
        "/v2": _get("v2", "What this server is", {200: {_JSON: {"schema": ref("Server")}}}),
        "/v2/health/live": _get(
            "v2_live", "Whether it lives", {200: {_JSON: {"schema": ref("Live")}}}
        ),
        "/v2/health/ready": _get("v2_ready", "Whether it is ready", {200: ready, 503: ready}),
    }


def _feedback() -> Schema:
    one = ref("Feedback")
    body = {"schema": {"oneOf": [one, {"type": "array", "items": one}]}}
    taken = {"description": "It is kept", "content": {_JSON: {"schema": ref("Taken")}}}
    return {
        "operationId": "feedback",
        "summary": "Say what has come true of earlier predictions",
        "description": "Twice the same counts once; of two truths the one of the later time counts.",
        "tags": ["feedback"],
        "requestBody": {"required": True, "content": {_JSON: body}},
        "responses": {"200": taken, **_problems((400, 401, 403, 405, 413, 422, 500, 503))},
        "security": _SECURITY,
    }


def _metadata(model: ServedModel, routes: Routes) -> Schema:
    described: dict[int, Schema] = {200: {_JSON: {"schema": ref("Model")}}}
    ready: dict[int, Schema] = {status: {_JSON: {"schema": ref("Ready")}} for status in (200, 503)}
    name, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    of_name = {"parameters": _names(model)}
    versions = list(dict.fromkeys(str(variant.model.version) for variant in routes.live))
    of_version = {"parameters": [*_names(model), _version(versions)]}
    return {
        name: of_name | _get("model", "Inputs and outputs of the model", described, (404,)),
        version: of_version
        | _get("model_version", "Inputs and outputs of a version", described, (404,)),
        f"{name}/ready": of_name | _get("model_ready", "Whether it is ready", ready, (404,)),
        f"{version}/ready": of_version
        | _get("version_ready", "Whether it is ready", ready, (404,)),
    }


def _get(
    name: str, summary: str, answers: dict[int, Schema], problems: Iterable[int] = ()
) -> Schema:
    """Return a path that is asked without a body.

    Args:
        name: of the operation.
        summary: in a line.
        answers: status -> content.
        problems: other statuses.
    """
    told: Schema = {
        f"{status}": {"description": "Yes" if status == 200 else "No", "content": content}
        for status, content in answers.items()
    }
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["about"],
            "responses": {**told, **_problems((*problems, 405))},
        }
    }


def _problems(statuses: Iterable[int]) -> Schema:
    return {f"{s}": {"$ref": f"#/components/responses/{s}"} for s in sorted(set(statuses))}


def _problem(status: int) -> Schema:
    headers = {405: "allow", 429: "retry-after"}.get(status)
    told: Schema = {
        "description": _TITLES[status],
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
    if headers is not None:
        told["headers"] = {headers: {"$ref": f"#/components/headers/{headers}"}}
    return told


def _names(model: ServedModel) -> list[Any]:
    schema = {"type": "string", "enum": [model.name]}
    return [{"name": "name", "in": "path", "required": True, "schema": schema}]


def _version(held: list[str]) -> Schema:
    schema: Schema = {"type": "string", "pattern": "^[1-9][0-9]*$"}
    if held:
        schema["examples"] = held
    return {"name": "version", "in": "path", "required": True, "schema": schema}
