"""CSV on `/predict`: columns by name, typed by the signature."""

import csv
import io
import json

import pytest

HEADER = "area,rooms,sold,district,garage,built"


@pytest.fixture(scope="module")
def dialect(kit):
    return kit.dialect_of("csv")


def read(dialect, *lines, **headers):
    return dialect.read("\n".join((HEADER, *lines)).encode(), headers).rows


def test_cells_become_values_of_the_signature(dialect):
    assert read(dialect, '1.5,3,9007199254740993,"No ""r"", th",true,2008-06-01') == [
        (1.5, 3, 9007199254740993, None, 'No "r", th', True, "2008-06-01")
    ]


@pytest.mark.parametrize("text", ["", "nan", "NaN", "NA", "null", " ", "None", "inf", "-Infinity"])
def test_a_cell_without_a_number_is_no_value(dialect, text):
    assert read(dialect, f"1,2,{text},x,{text if text != 'inf' else ''},")[0][2:6] == (
        None,
        None,
        "x",
        None,
    )


def test_na_is_a_text_like_any_other(dialect):
    assert read(dialect, "1,2,3,NA,,")[0][4] == "NA"


@pytest.mark.parametrize(
    ("text", "number"),
    [("+3", 3), (" 3 ", 3), ("007", 7), ("3.", 3), (".5", 0.5), ("-.5", -0.5), ("-0", 0), ("0", 0)]
    + [("1e3", 1000), ("1.5E-3", 0.0015), ("00.50", 0.5), ("+1.e1", 10), ("0e0", 0)],
)
def test_numbers_may_be_written_as_people_write_them(dialect, text, number):
    assert read(dialect, f"{text},1,,,,")[0][0] == number


@pytest.mark.parametrize("text", ["+", ".", "e5", "+-3", "1_000", "0x10", "1,5", "٣", "3 4", "--1"])
def test_what_is_no_number_is_refused(kit, dialect, text):
    found = kit.problem(dialect, f'area,rooms\n1,2\n"{text}",2'.encode())
    assert (found.status, kit.place(found)) == (422, "#/1/area")


@pytest.mark.parametrize("text", ["True", "TRUE", "true", "1"])
def test_truth_may_be_written_in_any_case(dialect, text):
    assert read(dialect, f"1,2,,,{text},")[0][5] is True


def test_columns_come_in_any_order_and_others_are_left_out(dialect):
    body = b"id,rooms,area,id\n7,3,1.5,8\n"
    assert dialect.read(body, {}).rows == [(1.5, 3, None, None, None, None, None)]


def test_a_mark_of_byte_order_blank_lines_and_windows_ends_of_lines_do_no_harm(dialect):
    body = b"\xef\xbb\xbfarea,rooms\r\n\r\n1,2\r\n3,4\r\n\r\n"
    assert [row[:2] for row in dialect.read(body, {}).rows] == [(1.0, 2), (3.0, 4)]


@pytest.mark.parametrize(
    ("body", "status", "pointer", "said"),
    [
        (b"", 400, None, "empty"),
        (b"\n\n", 400, None, "empty"),
        (b"area,rooms\n\xff,1", 400, None, "utf-8"),
        (b'area,rooms\n"1,2', 400, None, "line 2"),
        (b'area,rooms\n"1"2,2', 400, None, "line 2"),
        (b"area,rooms\n" + b"x" * 200_000, 400, None, "limit"),
        (b"area,rooms\n", 422, None, "at least one row"),
        (b"area,rooms\n1,2\n3\n", 422, "#/1", "1 values where the header names 2"),
        (b"area\n1\n", 422, "#", "no column 'rooms'"),
        (b"area,rooms,area\n1,2,3\n", 422, "#", "two columns 'area'"),
        (b"area,rooms\n,2\n", 422, "#/0/area", "no value"),
        (b"area,rooms\n1,2\ninf,2\n", 422, "#/1/area", "no value"),
        (b"area,rooms\n1,2.5\n", 422, "#/0/rooms", "a text"),
        (b"area,rooms\n1,1e9\n2,1e10\n", 422, "#/1/rooms", "2147483647"),
        (b"area,rooms\n1e999,1\n", 422, "#/0/area", "out of range"),
        (b"area,rooms,1st/Floor ~ m\xc2\xb2\n1,1,1e39\n", 422, "#/0/1st~1Floor ~0 m²", "3.4"),
        (b"area,rooms,built\n1,2,2008-06-01\n1,2,soon\n", 422, "#/1/built", "ISO 8601"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(kit, dialect, body, status, pointer, said):
    found = kit.problem(dialect, body)
    assert found.status == status
    assert kit.place(found) == pointer
    assert said in found.detail


def test_a_text_that_is_required_must_not_be_empty(kit):
    dialect = kit.dialect_of(
        "csv", [{"name": "a", "type": "string"}, {"name": "b", "type": "long"}]
    )
    assert kit.place(kit.problem(dialect, b"a,b\nx,1\n,2\n")) == "#/1/a"


def test_more_rows_than_the_limit_are_not_read(kit):
    dialect = kit.dialect_of("csv", most_rows=3)
    assert len(dialect.read(b"area,rooms\n" + b"1,2\n" * 3, {}).rows) == 3
    assert kit.problem(dialect, b"area,rooms\n" + b"1,2\n" * 4 + b'"').status == 413


def test_the_answer_is_csv_with_an_id_for_each_row(kit):
    dialect = kit.dialect_of("csv", kit.NUMBERS, [False, True])
    reading = dialect.read(b"a,b,c\n1,2,3\n4,5,\n", {})
    said = kit.said_of([True, False], [[0.1, 0.9], [2 / 3, 1 / 3]])
    body, headers = dialect.write(reading, said)
    assert headers == [(b"content-type", b"text/csv; charset=utf-8; header=present")]
    rows = list(csv.reader(io.StringIO(body.decode())))
    assert rows == [
        ["id", "prediction", "probability.False", "probability.True"],
        [said.ids[0], "true", "0.1", "0.9"],
        [said.ids[1], "false", str(2 / 3), str(1 / 3)],
    ]


def test_a_label_with_a_comma_is_quoted(kit):
    dialect = kit.dialect_of("csv", kit.NUMBERS, ["a,b", 'c"'])
    reading = dialect.read(b"a,b,c\n1,2,3\n4,5,6\n", {})
    body, _ = dialect.write(reading, kit.said_of(["a,b", 'c"']))
    assert [row[1] for row in csv.reader(io.StringIO(body.decode()))][1:] == ["a,b", 'c"']


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", b"application/json"),
        ("text/html, application/json;q=0.9", b"application/json"),
        ("text/csv, application/json", b"text/csv"),
        ("*/*", b"text/csv"),
    ],
)
def test_the_answer_is_json_where_that_is_asked_for(kit, accept, kind):
    dialect = kit.dialect_of("csv", kit.NUMBERS)
    reading = dialect.read(b"a,b,c\n1,2,3\n", kit.headers_of("text/csv", accept=accept))
    said = kit.said_of([1.5])
    body, headers = dialect.write(reading, said)
    assert dict(headers)[b"content-type"].startswith(kind)
    if kind == b"application/json":
        assert json.loads(body)["predictions"] == [1.5]
