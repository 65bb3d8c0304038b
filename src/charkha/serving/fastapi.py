"""What stands beside `/predict`: `/healthz`, and the OpenAPI page that names the model's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from charkha import __version__
from charkha.serving.problems import SCHEMA as PROBLEM

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel


def make_admin(model: ServedModel) -> FastAPI:
    """Return the application; `/predict` is in its documentation but not among its routes."""
    app = FastAPI(
        title=f"{model.name} version {model.version}",
        version=str(model.version),
        description=f"Predicts {model.described['target']}. Served by Charkha {__version__}.",
    )

    @app.get("/healthz", summary="Whether the server lives, and what it serves")
    def healthz() -> dict[str, object]:
        return {
            "status": "ok",
            "model": model.name,
            "version": model.version,
            "form": model.predictor.form,
        }

    documented = app.openapi()
    documented["paths"]["/predict"] = {"post": _predict(model)}
    schemas = documented.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Row": model.schema.openapi(), "Answer": _answer(model), "Problem": PROBLEM}
    return app


def _predict(model: ServedModel) -> dict[str, object]:
    row = {"$ref": "#/components/schemas/Row"}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    body = {
        "schema": {"oneOf": [row, {"type": "array", "items": row, "minItems": 1}]},
        "examples": {
            "one row": {"value": model.example[0]},
            "many rows": {"value": model.example},
        },
    }
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
    return {
        "summary": f"Predict {model.described['target']}",
        "operationId": "predict",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {"description": "An answer for each row, in order", "content": answer},
            "400": {"description": "The body is no JSON", "content": problem},
            "413": {"description": "The body is too large", "content": problem},
            "422": {"description": "The rows do not fit the model", "content": problem},
        },
    }


def _answer(model: ServedModel) -> dict[str, object]:
    classes = model.described["classes"]
    one: dict[str, object] = {"enum": classes} if classes else {"type": "number"}
    return {
        "type": "object",
        "title": "Answer",
        "properties": {
            "id": {"type": "string", "description": "of this request"},
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "prediction": {**one, "description": "of one row"},
            "predictions": {"type": "array", "items": one, "description": "of many rows"},
            "probabilities": {"description": "by label, where the model has them"},
        },
        "required": ["id", "model", "version"],
    }
