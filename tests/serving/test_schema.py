import json

import pytest

from charkha.errors import UserError
from charkha.serving.problems import Problem
from charkha.serving.schema import RowSchema

SIGNATURE = [
    {"name": "area", "type": "double", "required": True},
    {"name": "1st/Floor ~ m²", "type": "long", "required": True},
    {"name": "district", "type": "string", "required": False},
    {"name": "built", "type": "datetime", "required": False},
    {"name": "rooms", "type": "integer", "required": False},
    {"name": "garage", "type": "boolean", "required": False},
]
ROW = {"area": 1.5, "1st/Floor ~ m²": 3}


@pytest.fixture(scope="module")
def schema():
    return RowSchema(SIGNATURE)


def problem(schema, body):
    with pytest.raises(Problem) as caught:
        schema.decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def test_a_row_has_the_signatures_order_and_what_is_left_out_is_nothing(schema):
    rows, single = schema.decode(json.dumps(ROW).encode())
    assert single
    assert rows == [(1.5, 3, None, None, None, None)]


def test_many_rows_keep_their_order(schema):
    rows, single = schema.decode(json.dumps([{**ROW, "area": n} for n in (3, 1, 2)]).encode())
    assert not single
    assert [row[0] for row in rows] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({**ROW, "area": "big"}, "#/area", "Expected 'float', got 'str'"),
        ([ROW, {**ROW, "area": None}], "#/1/area", "got 'null'"),
        ({"area": 1}, "#/1st~1Floor ~0 m²", "missing required field '1st/Floor ~ m²'"),
        ([ROW, {**ROW, "aera": 1}], "#/1/aera", "unknown field 'aera', did you mean 'area'?"),
        ({**ROW, "1st/Floor ~ m²": 1.5}, "#/1st~1Floor ~0 m²", "Expected 'int', got 'float'"),
        ({**ROW, "rooms": 2**31}, "#/rooms", "<= 2147483647"),
        ({**ROW, "garage": 1}, "#/garage", "Expected 'bool"),
        ([{**ROW, "built": "yesterday"}], "#/0/built", "ISO 8601"),
        (b'{"area": 1e999, "1st/Floor ~ m\xc2\xb2": 1}', "#/area", "out of range"),
        ([ROW, 3], "#/1", "Expected 'object', got 'int'"),
        (3, "#", "Expected 'object | array', got 'int'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(schema, body, pointer, said):
    found = problem(schema, body)
    assert found.status == 422
    assert found.errors[0]["pointer"] == pointer
    assert said in found.errors[0]["detail"]


def test_the_detail_for_people_says_row_and_field(schema):
    assert problem(schema, [ROW, {**ROW, "area": "big"}]).detail == (
        "row 2: area: Expected 'float', got 'str'"
    )


def test_an_empty_text_is_no_value():
    optional = RowSchema([{"name": "a", "type": "string", "required": False}])
    assert optional.decode(b'{"a": ""}') == ([(None,)], True)
    required = RowSchema([{"name": "a", "type": "string", "required": True}])
    assert problem(required, {"a": ""}).errors[0]["pointer"] == "#/a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"area": NaN}',
        b"[",
        b'{"unknown":',
        b'{"district": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_a_bad_request(schema, body):
    assert problem(schema, body).status == 400


def test_no_rows_is_an_error(schema):
    assert problem(schema, []).title == "There are no rows"


def test_openapi_names_every_feature_with_its_type(schema):
    row = schema.openapi()
    assert row["properties"]["area"] == {"type": "number", "format": "double"}
    assert row["properties"]["district"]["type"] == ["string", "null"]
    assert row["required"] == ["area", "1st/Floor ~ m²"]


def test_a_type_that_no_request_can_carry_is_refused():
    with pytest.raises(UserError, match="column 'photo' is a binary"):
        RowSchema([{"name": "photo", "type": "binary"}])


def test_rows_given_as_lists_are_checked_like_objects(schema):
    assert schema.from_values([[1, 2, "x", None, None, True]]) == [(1.0, 2, "x", None, None, True)]
    with pytest.raises(Problem) as caught:
        schema.from_values(
            [[1, 2, "x", None, None, True], [1, "two", "", None, None, None]], "/data"
        )
    assert caught.value.errors[0]["pointer"] == "#/data/1/1st~1Floor ~0 m²"
    with pytest.raises(Problem, match="length 6"):
        schema.from_values([[1, 2]])


def test_text_stands_for_a_number_only_where_that_is_asked_for(schema):
    given = [{"area": "1.5", "1st/Floor ~ m²": "3", "garage": "true"}]
    assert schema.from_records(given, parse=True) == [(1.5, 3, None, None, None, True)]
    with pytest.raises(Problem, match="got 'str'"):
        schema.from_records(given)
