"""Model versions that need no model: a signature, and answers that are given."""

import math
from datetime import datetime
from types import SimpleNamespace

import pytest

from charkha.serving.dialects.choice import make_dialect
from charkha.serving.dialects.port import Said
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem
from charkha.serving.records.ids import new_ids
from charkha.serving.schema import RowSchema

COLUMNS = [
    {"name": "area", "type": "double", "required": True},
    {"name": "rooms", "type": "integer", "required": True},
    {"name": "sold", "type": "long", "required": False},
    {"name": "1st/Floor ~ m²", "type": "float", "required": False},
    {"name": "district", "type": "string", "required": False},
    {"name": "garage", "type": "boolean", "required": False},
    {"name": "built", "type": "datetime", "required": False},
]
NUMBERS = [{"name": name, "type": "double", "required": name != "c"} for name in "abc"]
_MOST = {"integer": 2**31, "long": 2**63}


def model_of(columns=COLUMNS, classes=None):
    return SimpleNamespace(
        name="prices",
        version=7,
        schema=RowSchema(columns),
        described={"classes": classes},
        classes=None if classes is None else tuple(map(str, classes)),
    )


def dialect_of(name, columns=COLUMNS, classes=None, **limits):
    return make_dialect(name, model_of(columns, classes), "blue", **limits)


def headers_of(content_type=None, **more):
    """Return headers as the server has them: `accept="x"`, `charkha_key="y"`."""
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
    if content_type is not None:
        headers[b"content-type"] = content_type.encode()
    return headers


def said_of(values, shares=None):
    return Said(new_ids(len(values)), Answers(values, shares))


def problem(dialect, body, headers=None):
    """Return the problem that a body has."""
    with pytest.raises(Problem) as caught:
        dialect.read(body, headers or {})
    return caught.value


def place(found):
    return found.errors[0]["pointer"] if found.errors else None


def fits(columns, row):
    """Whether a row is of the signature's types, as the predictors rely on."""
    return len(row) == len(columns) and all(map(_is, columns, row))


def _is(column, value):
    if value is None:
        return not column["required"]
    match column["type"]:
        case "double" | "float" as kind:
            most = 3.4028235e38 if kind == "float" else math.inf
            return type(value) is float and math.isfinite(value) and abs(value) <= most
        case "integer" | "long" as kind:
            return type(value) is int and -_MOST[kind] <= value < _MOST[kind]
        case "boolean":
            return type(value) is bool
        case "string":
            return type(value) is str and value != "" and value.encode() is not None
    datetime.fromisoformat(value)
    return True


@pytest.fixture(scope="session")
def kit():
    """Return what is defined above."""
    return SimpleNamespace(**{k: v for k, v in globals().items() if not k.startswith("_")})
