"""What MLflow's scoring server reads is read here, and told back as its clients expect it."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own affairs
    from mlflow.exceptions import MlflowException
    from mlflow.models.utils import _enforce_schema
    from mlflow.pyfunc.scoring_server import _split_data_and_params, infer_and_parse_data
    from mlflow.types import ColSpec, Schema
    from mlflow.utils.proto_json_utils import dump_input_data

ROW = {"area": 1.5, "rooms": 3, "district": "North", "garage": True, "built": "2008-06-01"}
SETTLED = (1.5, 3, None, None, "North", True, "2008-06-01")


@pytest.fixture(scope="module")
def dialect(kit):
    return kit.dialect_of("invocations")


def read(dialect, document, content_type="application/json"):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return dialect.read(body, {b"content-type": content_type.encode()}).rows


def split(row):
    return {"columns": list(row), "data": [list(row.values())]}


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": split(ROW)},
        {"dataframe_split": {**split(ROW), "index": [17]}},
        {"dataframe_split": split(dict(reversed(ROW.items())))},
        {"dataframe_split": split({"more": {"deep": []}, **ROW})},
        {"dataframe_records": [ROW]},
        {"dataframe_records": [{**ROW, "more": [1]}]},
        {"instances": [ROW]},
        {"inputs": [ROW]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
        {"instances": {name: [value] for name, value in ROW.items()}},
        {"inputs": ROW},
        {"inputs": {**ROW, "area": [1.5], "more": [2]}},
        {"inputs": [list(SETTLED)]},
        {"instances": [list(SETTLED)]},
        {"dataframe_split": {"data": [list(SETTLED)]}},
        {"dataframe_records": [ROW], "params": {"temperature": 1}, "signature_name": "x"},
        {"dataframe_records": [{**ROW, "area": "1.5", "rooms": "3", "garage": "true"}]},
        {"dataframe_records": [{**ROW, "rooms": 3.0, "sold": None}]},
    ],
    ids=lambda document: next(iter(document)),
)
def test_every_form_of_a_row_becomes_the_same_row(dialect, document):
    assert read(dialect, document) == [SETTLED]


def test_rows_keep_their_order_in_every_form(dialect):
    areas = [3.0, 1.0, 2.0]
    rows = [{**ROW, "area": area} for area in areas]
    columns = {name: [row[name] for row in rows] for name in ROW}
    for document in (
        {"dataframe_records": rows},
        {"dataframe_split": {"columns": list(ROW), "data": [[*row.values()] for row in rows]}},
        {"inputs": columns},
        {"inputs": {**columns, "rooms": 3}},
    ):
        assert [row[0] for row in read(dialect, document)] == areas


def test_a_single_column_may_come_without_its_name(kit):
    dialect = kit.dialect_of("invocations", [{"name": "area", "type": "double"}])
    assert read(dialect, {"inputs": [1, 2.5]}) == [(1.0,), (2.5,)]
    assert read(dialect, {"instances": [[1], [2.5]]}) == [(1.0,), (2.5,)]


def test_what_python_writes_for_no_number_is_no_value_and_in_a_text_it_stays(dialect):
    body = b'{"dataframe_records": [{"area": 1, "rooms": 2, "sold": NaN, "district": "a \\" NaN"}]}'
    assert read(dialect, body) == [(1.0, 2, None, None, 'a " NaN', None, None)]
    body = b'{"inputs": {"area": [1], "rooms": [2], "1st/Floor ~ m\xc2\xb2": [-Infinity]}}'
    assert read(dialect, body)[0][3] is None
    body = b'{"inputs": {"area": [NaN], "rooms": [2]}}'
    with pytest.raises(Exception, match="got 'null'"):
        read(dialect, body)


def test_a_table_as_mlflows_client_sends_it_has_its_missing_values(dialect):
    table = pd.DataFrame(
        {
            "area": [1.0, 2.0],
            "rooms": [1, 2],
            "sold": [np.nan, 3],
            "district": ["a", None],
            "built": pd.to_datetime(["2008-06-01", None]),
        }
    )
    assert read(dialect, dump_input_data(table).encode()) == [
        (1.0, 1, None, None, "a", None, "2008-06-01T00:00:00"),
        (2.0, 2, 3, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("document", "pointer", "said"),
    [
        ({"dataframe_split": split({**ROW, "area": "big"})}, "#/dataframe_split/data/0/0", "float"),
        ({"dataframe_split": split({**ROW, "built": "soon"})}, "#/dataframe_split/data/0/4", "ISO"),
        ({"dataframe_split": split({"area": 1})}, "#", "no column 'rooms'"),
        ({"dataframe_split": {"columns": ["area"], "data": [[1]], "rows": 1}}, "#/dataframe_split", "rows"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "#/dataframe_split/columns/0", "str"),
        ({"dataframe_split": {"columns": ["area", "rooms", "area"], "data": []}}, "#", "two columns"),
        ({"dataframe_split": {"columns": ["area", "rooms"], "data": [[1]]}}, "#/dataframe_split/data/0", "2"),
        ({"dataframe_records": [ROW, {**ROW, "rooms": 3.7}]}, "#/dataframe_records/1/rooms", "int"),
        ({"dataframe_records": [{**ROW, "rooms": 2**31}]}, "#/dataframe_records/0/rooms", "2147483647"),
        ({"dataframe_records": ROW}, "#/dataframe_records", "list"),
        ({"inputs": {**ROW, "area": [1, 2], "rooms": [1]}}, "#/inputs", "equally long"),
        ({"inputs": {**ROW, "area": [1, "x"]}}, "#/inputs/area/1", "float"),
        ({"inputs": {**ROW, "area": "x"}}, "#/inputs/area", "float"),
        ({"inputs": [1, 2]}, "#/inputs/0", "objects"),
        ({"inputs": 3}, "#/inputs", "list"),
        ({"inputs": [ROW, 3]}, "#/inputs/1", "object"),
        ({"inputs": [[1, 2]]}, "#/inputs/0", "7"),
        ({"inputs": []}, None, "at least one row"),
        ({"inputs": {}}, "#", "no column 'area'"),
        ({"inputs": [ROW], "instances": [ROW]}, "#", "exactly one"),
        ({"rows": [ROW]}, "#", "exactly one"),
        ([ROW], "#", "object"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_bad_request_as_mlflow_has_it_with_the_place(
    kit, dialect, document, pointer, said
):
    found = kit.problem(dialect, json.dumps(document).encode())
    told = found.as_json()
    assert (found.status, told["status"], told["error_code"]) == (400, 400, "BAD_REQUEST")
    assert kit.place(found) == pointer
    assert said in told["message"]


def test_what_is_no_json_is_a_bad_request(kit, dialect):
    for body in (b"", b"{", b"\xff", b'{"inputs": ', b'{"inputs": [{"area": tru}]}', b"[" * 99_999):
        assert kit.problem(dialect, body).status == 400


FEW = {
    "dataframe_records": lambda rows: {"dataframe_records": rows},
    "split": lambda rows: {
        "dataframe_split": {"columns": list(ROW), "data": [list(row.values()) for row in rows]}
    },
    "lists": lambda rows: {"inputs": [list(SETTLED)] * len(rows)},
    "columns": lambda rows: {"inputs": {**ROW, "area": [1.5] * len(rows)}},
}


@pytest.mark.parametrize("form", FEW)
def test_more_rows_than_the_limit_are_refused(kit, form):
    dialect = kit.dialect_of("invocations", most_rows=50)
    odd = {**ROW, "district": '{"[{\\"['}  # in a text they begin no row
    assert len(read(dialect, FEW[form]([odd] * 50))) == 50
    found = kit.problem(dialect, json.dumps(FEW[form]([odd] * 51)).encode())
    assert (found.status, found.kind) == (413, "too-many-rows")


def test_rows_of_nothing_are_counted_before_they_are_made(kit):
    wide = [{"name": f"c{n}", "type": "double", "required": False} for n in range(2000)]
    dialect = kit.dialect_of("invocations", wide)
    body = b'{"inputs": [' + b"{}," * 3_000_000 + b"{}]}"
    assert kit.problem(dialect, body).status == 413
    assert len(dialect.read(b'{"inputs": [' + b"{}," * 99 + b"{}]}", {}).rows) == 100


def test_a_text_without_an_end_is_looked_through_once(kit, dialect):
    body = b'{"inputs": NaN, "x": "' + b'\\"' * 2_000_000
    assert kit.problem(dialect, body).status == 400


def test_columns_without_end_are_refused(kit, dialect):
    columns = [f"c{n}" for n in range(30_000)]
    document = {"dataframe_split": {"columns": columns, "data": [[0] * 30_000]}}
    assert "30,000 columns" in kit.problem(dialect, json.dumps(document).encode()).detail


def test_csv_is_read_as_pandas_reads_it(dialect):
    text = (
        b"\xef\xbb\xbf,area,rooms,district,garage,built,sold\r\n"
        b'0,1.5,3,"No, rth",True,2008-06-01,NA\r\n'
        b"1, +2. ,4,NA,,,9007199254740993\r\n\r\n"
    )
    for kind in ("text/csv", "text/csv; charset=UTF-8", "Text/CSV;charset=utf-8"):
        assert read(dialect, text, kind) == [
            (1.5, 3, None, None, "No, rth", True, "2008-06-01"),
            (2.0, 4, 9007199254740993, None, None, None, None),
        ]


def test_parquet_is_read_as_well(dialect):
    table = pd.DataFrame({"area": [1.5], "rooms": [3], "more": ["x"]})
    assert read(dialect, table.to_parquet(), "application/vnd.apache.parquet")[0][:2] == (1.5, 3)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/json; format=pandas-split", "text/csv; charset=latin-1", "x\xff"],
)
def test_another_content_type_is_not_supported(kit, dialect, kind):
    found = kit.problem(dialect, b"{}", {b"content-type": kind.encode("latin-1")})
    assert (found.status, found.as_json()["error_code"]) == (415, "INVALID_PARAMETER_VALUE")


def test_predictions_come_with_their_ids(kit, dialect):
    reading = dialect.read(json.dumps({"inputs": [ROW, ROW]}).encode(), {})
    said = kit.said_of([1.5, float("nan")])
    body, headers = dialect.write(reading, said)
    assert json.loads(body) == {"predictions": [1.5, None], "ids": list(said.ids)}
    assert headers == [(b"content-type", b"application/json")]


def mlflow_reads(columns, document):
    """Return the rows that MLflow would give to a model with this signature, None for a refusal."""
    schema = Schema([ColSpec(c["type"], c["name"], required=c["required"]) for c in columns])
    try:
        data, _ = _split_data_and_params(json.dumps(document))
        table = _enforce_schema(infer_and_parse_data(data, schema), schema)
    except MlflowException:
        return None
    table = table.reindex(columns=[c["name"] for c in columns]).astype(object)
    return [
        tuple(v.isoformat() if isinstance(v, pd.Timestamp) else v for v in row)
        for row in table.where(table.notna(), None).itertuples(index=False, name=None)
    ]


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {**ROW, "area": 2},
        {**ROW, "area": "2.5"},
        {**ROW, "rooms": "4"},
        {**ROW, "district": None},
        {**ROW, "more": 1},
        {"area": 1.5, "rooms": 3},
        {"area": 1.5, "rooms": 3, "built": "2008-06-01T12:30:00"},
        {"area": 1.5, "rooms": 3, "1st/Floor ~ m²": 2.5},
        {"rooms": 3},
        {"area": "big", "rooms": 3},
        {"area": 1.5, "rooms": None},
        {"area": 1.5, "rooms": "3.5"},
        {"area": 1.5, "rooms": 3, "built": "soon"},
    ],
)
@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split"])
def test_mlflow_reads_the_same(kit, dialect, row, form):
    document = {form: split(row) if form == "dataframe_split" else [row]}
    theirs = mlflow_reads(kit.COLUMNS, document)
    if theirs is None:
        assert kit.problem(dialect, json.dumps(document).encode()).status == 400
        return
    ours = [(*r[:6], r[6] and pd.Timestamp(r[6]).isoformat()) for r in read(dialect, document)]
    assert ours == theirs
