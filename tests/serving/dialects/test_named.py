"""JSON on `/predict`: what its whole numbers may look like."""

import json

import pytest

ROW = {"area": 1.5, "rooms": 3}


@pytest.fixture(scope="module")
def dialect(kit):
    return kit.dialect_of("named")


@pytest.mark.parametrize("body", [{**ROW, "rooms": 3.0, "sold": 2e3}, [{**ROW, "sold": 2000.0}]])
def test_a_whole_number_may_have_a_point(dialect, body):
    row = dialect.read(json.dumps(body).encode(), {}).rows[0]
    assert row[:3] == (1.5, 3, 2000)
    assert {type(value) for value in row[1:3]} == {int}


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({**ROW, "rooms": 3.5}, "#/rooms", "got 'float'"),
        ([{**ROW, "rooms": 3.0}, {**ROW, "sold": 0.1}], "#/1/sold", "got 'float'"),
        ({**ROW, "rooms": 3e9}, "#/rooms", "2147483647"),
        ({**ROW, "rooms": 3.0, "area": "x"}, "#/area", "got 'str'"),
        ({**ROW, "rooms": 3.0, "garage": 1.0}, "#/garage", "bool"),
        ([{**ROW, "rooms": 3.0}, 7], "#/1", "got 'int'"),
    ],
)
def test_and_what_is_none_is_refused_with_its_place(kit, dialect, body, pointer, said):
    found = kit.problem(dialect, json.dumps(body).encode())
    assert (found.status, kit.place(found)) == (422, pointer)
    assert said in found.detail


def test_large_numbers_keep_all_their_digits(dialect):
    body = b'{"area": 1, "rooms": 3.0, "sold": 9223372036854775807}'
    assert dialect.read(body, {}).rows[0][2] == 2**63 - 1
