"""Schemas of an OpenAPI document: rows and answers in each protocol, feedback, problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charkha.serving.dialects.inference_v2 import DATATYPES as KINDS
from charkha.serving.dialects.invocations import FORMATS
from charkha.serving.dialects.tables import kind_of
from charkha.serving.dialects.tensors import DATATYPES
from charkha.serving.problems import SCHEMA as PROBLEM

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel

Schema = dict[str, Any]
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_ID: Schema = {"type": "string", "format": "uuid", "description": "a UUIDv7"}
_SHARE: Schema = {"type": "number"}
_VALUE: Schema = {"type": ["number", "string", "boolean", "null"]}
_FREE: Schema = {"type": "object", "additionalProperties": True}
_MOMENT: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
        {"type": "null"},
    ]
}


def ref(name: str) -> Schema:
    """Return what stands for a schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def of_server() -> Schema:
    """Return the schemas that every server has."""
    extended = {
        **PROBLEM["properties"],  # type: ignore[dict-item]
        "id": {"type": "string", "description": "of the request, as in the header charkha-id"},
        "error": {"type": "string", "description": "on /v2: all of it in one text"},
        "error_code": {"type": "string", "description": "on /invocations: MLflow's name of it"},
        "message": {"type": "string", "description": "on /invocations: all of it in one text"},
    }
    feedback = _object(
        {
            "id": {**_ID, "description": "of the prediction: charkha-id, or one of ids"},
            "ground_truth": {
                "anyOf": [
                    {"type": "number"},
                    {"type": "string", "maxLength": 10_000},
                    {"type": "boolean"},
                ]
            },
            "time": {**_MOMENT, "description": "when it was true; now, where nothing is said"},
        },
        optional=("time",),
    )
    return {
        "Problem": {
            **PROBLEM,
            "properties": extended,
            "required": ["type", "title", "status", "detail"],
        },
        "Feedback": {**feedback, "additionalProperties": False},
        "Taken": _object({"taken": {"type": "integer"}}),
        "Server": _object(
            {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "extensions": _list({"type": "string"}),
            }
        ),
        "TensorMetadata": _object(
            {
                "name": {"type": "string"},
                "datatype": {"type": "string", "enum": list(DATATYPES)},
                "shape": _list({"type": "integer", "minimum": -1}),
                "parameters": _FREE,
            },
            optional=("parameters",),
        ),
        "Model": _object(
            {
                "name": {"type": "string"},
                "versions": _list({"type": "string"}),
                "platform": {"type": "string"},
                "inputs": _list(ref("TensorMetadata")),
                "outputs": _list(ref("TensorMetadata")),
            }
        ),
        "Ready": _object({"ready": {"type": "boolean"}, "name": {"type": "string"}}, ("name",)),
        "Live": _object({"live": {"type": "boolean"}}),
    }


def of_model(model: ServedModel) -> Schema:
    """Return the schemas of a model's rows and answers."""
    row = {**model.schema.openapi(), "examples": model.example[:1]}
    return {
        "Row": row,
        **_answers(model),
        **_invocations(model, row),
        **_tensors(model),
    }


def _answers(model: ServedModel) -> Schema:
    labels = model.described["classes"]
    if labels is None:
        one: Schema = {"type": "number", "format": "double"}
    else:
        one = {"type": _TYPES[kind_of(labels)], "enum": list(labels)}
        if len({type(label) for label in labels}) > 1:
            one = {"enum": list(labels)}
    shares = _object(dict.fromkeys(model.classes or (), _SHARE))
    about: Schema = {
        "id": {**_ID, "description": "of this request, and of its first row"},
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "variant": {"type": "string"},
    }
    of_one: Schema = {**about, "prediction": one}
    of_many: Schema = {**about, "ids": _list(_ID), "predictions": _list(one)}
    if labels is not None:
        of_one["probabilities"], of_many["probabilities"] = shares, _list(shares)
    optional = ("probabilities",)
    return {
        "Answer": {**_object(of_one, optional), "description": "to one row"},
        "Answers": {**_object(of_many, optional), "description": "to many rows, in order"},
        "Predictions": _object({"predictions": _list(one), "ids": _list(_ID)}),
    }


def _invocations(model: ServedModel, row: Schema) -> Schema:
    names = list(model.schema.names)
    values = {**_list(_VALUE), "minItems": 1}
    rows = {"oneOf": [_list(ref("LooseRow")), _list(values), _list(_VALUE), ref("Columns")]}
    split = _object(
        {
            "columns": {**_list({"type": "string"}), "examples": [names]},
            "data": {**_list(values), "minItems": 1},
            "index": {"type": "array", "items": {}},
        },
        optional=("columns", "index"),
    )
    forms: Schema = {
        "dataframe_split": {**split, "additionalProperties": False},
        "dataframe_records": {**_list(ref("LooseRow")), "minItems": 1},
        "instances": rows,
        "inputs": rows,
    }
    return {
        "LooseRow": {
            "type": "object",
            "title": "LooseRow",
            "description": "a row with columns that the model does not take, which are ignored",
            "properties": dict.fromkeys(names, _VALUE),
            "required": row["required"],
        },
        "Columns": {
            "type": "object",
            "title": "Columns",
            "properties": {name: {"oneOf": [_VALUE, values]} for name in names},
        },
        "Invocation": {
            **_object({**forms, "params": {**_FREE, "description": "ignored"}}, ("params", *forms)),
            "description": f"exactly one of {', '.join(FORMATS)}",
            "oneOf": [{"required": [name]} for name in FORMATS],
        },
    }


def _tensors(model: ServedModel) -> Schema:
    size: Schema = {"type": "integer", "minimum": 0}
    named: Schema = {"name": {"type": "string"}, "shape": {**_list(size), "minItems": 1}}
    datatype = {"type": "string", "enum": list(DATATYPES)}
    data: Schema = {"type": "array", "items": {}, "description": "flat, or nested as the shape is"}
    parameters = {**_FREE, "properties": {"binary_data_size": size}}
    tensor = {**named, "datatype": datatype, "data": data, "parameters": parameters}
    wanted = {"name": {"type": "string"}, "parameters": _FREE}
    example = {
        "inputs": [
            {"name": str(name), "shape": [1], "datatype": kind, "data": [value]}
            for name, kind, value in _example_tensors(model)
        ]
    }
    return {
        "Tensor": _object(tensor, optional=("data", "parameters")),
        "InferenceRequest": {
            **_object(
                {
                    "id": {"type": "string"},
                    "parameters": _FREE,
                    "inputs": {**_list(ref("Tensor")), "minItems": 1},
                    "outputs": _list(_object(wanted, optional=("parameters",))),
                },
                optional=("id", "parameters", "outputs"),
            ),
            "examples": [example],
        },
        "InferenceResponse": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "parameters": _FREE,
                "outputs": _list(ref("Tensor")),
            },
            optional=("parameters",),
        ),
    }


def _example_tensors(model: ServedModel) -> list[tuple[str, str, object]]:
    from_row = model.example[0]
    return [
        (str(column["name"]), KINDS[column["type"]], from_row.get(str(column["name"])))
        for column in model.schema.columns
    ]


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    made: Schema = {"type": "object", "properties": properties}
    return {**made, "required": required} if required else made


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
