"""Arrow streams and Parquet on `/predict`, and what must not become larger than it may."""

import datetime as dt
import decimal
import io
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FLOOR = "1st/Floor ~ m²"


def as_arrow(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


WRITERS = {"arrow": as_arrow, "parquet": as_parquet}


@pytest.fixture(params=WRITERS)
def form(request):
    return request.param


@pytest.fixture
def read(kit, form):
    def read(table, columns=kit.COLUMNS, **options):
        return kit.dialect_of(form, columns).read(WRITERS[form](table, **options), {}).rows

    return read


@pytest.fixture
def refused(kit, form):
    def refused(table, columns=kit.COLUMNS, body=None, **limits):
        dialect = kit.dialect_of(form, columns, **limits)
        return kit.problem(dialect, body or WRITERS[form](table))

    return refused


ROWS = pa.table(
    {
        "area": [1.5, 2],
        "rooms": pa.array([3, -4], pa.int8()),
        "sold": pa.array([9007199254740993, None]),
        FLOOR: pa.array([2.5, np.nan], pa.float32()),
        "district": ["Nörth", ""],
        "garage": [True, None],
        "built": [dt.datetime(2008, 6, 1, 12), None],
        "more": [{"deep": [1]}, None],
    }
)
READ = [
    (1.5, 3, 9007199254740993, 2.5, "Nörth", True, "2008-06-01T12:00:00.000000"),
    (2.0, -4, None, None, None, None, None),
]


def test_columns_become_rows_and_others_are_left_out(read):
    assert read(ROWS) == READ
    assert read(ROWS.select(list(reversed(ROWS.column_names)))) == READ


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_table_is_read(read, compression):
    assert read(ROWS, compression=compression) == READ


def test_many_batches_are_one_table(kit):
    dialect = kit.dialect_of("arrow", kit.NUMBERS)
    table = pa.table({name: np.arange(1000.0) for name in "abc"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    assert [row[0] for row in dialect.read(sink.getvalue(), {}).rows] == list(range(1000))
    parquet = as_parquet(table, row_group_size=100)
    assert len(kit.dialect_of("parquet", kit.NUMBERS).read(parquet, {}).rows) == 1000


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "b", "a"]),
        pa.array(["a", None, "b", "a"], pa.large_string()),
        pa.array(["a", None, "b", "a"]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type)[:12],
)
def test_texts_come_in_every_form_that_arrow_has(read, values):
    rows = read(pa.table({"t": values}), [{"name": "t", "type": "string", "required": False}])
    assert rows == [("a",), (None,), ("b",), ("a",)]


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("double", pa.array([1, 2**53 + 1], pa.uint64()), [1.0, 2.0**53]),
        ("double", pa.array([1, 2], pa.float16()), [1.0, 2.0]),
        ("double", pa.array([decimal.Decimal("1.10"), None]), [1.1, None]),
        ("double", pa.array(["1.5", None]), [1.5, None]),
        ("double", pa.array([np.inf, -np.inf]), [None, None]),
        ("double", pa.nulls(2), [None, None]),
        ("long", pa.array([1.0, np.nan]), [1, None]),
        ("long", pa.array([decimal.Decimal("9007199254740993"), None]), [9007199254740993, None]),
        ("boolean", pa.array([1, 0], pa.int8()), [True, False]),
        ("datetime", pa.array([dt.date(2008, 6, 1), None]), ["2008-06-01", None]),
        ("datetime", pa.array(["2008-06-01", None]), ["2008-06-01", None]),
        (
            "datetime",
            pa.array([1212321600123456789, None], pa.timestamp("ns", "Europe/Berlin")),
            ["2008-06-01T14:00:00.123456789+0200", None],
        ),
    ],
)
def test_types_become_those_of_the_signature(kit, read, kind, values, wanted):
    column = {"name": "x", "type": kind, "required": False}
    rows = read(pa.table({"x": values}), [column])
    assert rows == [(value,) for value in wanted]
    assert all(kit.fits([column], row) for row in rows)


def test_what_pandas_and_polars_write_is_read(kit):
    table = pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5], "c": [np.nan, 3]}, index=[7, 8])
    rows = [(1.0, 1.5, None), (2.0, 2.5, 3.0)]
    parquet, arrow = kit.dialect_of("parquet", kit.NUMBERS), kit.dialect_of("arrow", kit.NUMBERS)
    assert parquet.read(table.to_parquet(), {}).rows == rows
    frame, file, stream = pl.from_pandas(table), io.BytesIO(), io.BytesIO()
    frame.write_parquet(file)
    frame.write_ipc_stream(stream)
    assert parquet.read(file.getvalue(), {}).rows == rows
    assert arrow.read(stream.getvalue(), {}).rows == rows
    texts, stream = [{"name": "t", "type": "string"}], io.BytesIO()
    pl.DataFrame({"t": ["a", "a longer one than fits"]}).write_ipc_stream(stream)
    assert kit.dialect_of("arrow", texts).read(stream.getvalue(), {}).rows[1] == (
        "a longer one than fits",
    )


@pytest.mark.parametrize(
    ("values", "pointer", "said"),
    [
        ([1.5, "x"], "#/1/a", "float"),
        (pa.array([1.0, None]), "#/1/a", "null"),
        (pa.array([1.0, np.nan]), "#/1/a", "null"),
        (pa.array([True, False]), "#/0/a", "float"),
        (pa.array([[1.0], [2.0]]), "#/0/a", "list"),
        (pa.array([b"1", b"2"]), "#/0/a", "binary"),
        (pa.array([dt.time(1), dt.time(2)]), "#/0/a", "time"),
        (pa.array([dt.timedelta(1), None]), "#/0/a", "duration"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(refused, values, pointer, said, kit):
    if isinstance(values, list):
        values = pa.array([str(value) for value in values])
    found = refused(pa.table({"a": values, "b": [1, 2]}), kit.NUMBERS)
    assert (found.status, kit.place(found)) == (422, pointer)
    assert said in found.detail


def test_columns_that_lack_or_come_twice_are_named(refused, kit):
    assert "no column 'b'" in refused(pa.table({"a": [1]}), kit.NUMBERS).detail
    twice = pa.Table.from_arrays([pa.array([1.0])] * 3, names=["a", "b", "a"])
    assert "two columns 'a'" in refused(twice, kit.NUMBERS).detail
    assert "at least one row" in refused(ROWS.slice(0, 0)).detail


def test_what_is_no_table_is_a_bad_request(kit, refused, form):
    whole = WRITERS[form](ROWS)
    for body in (
        b"x",
        b"PAR1",
        whole[:-20],
        whole[20:],
        whole[:40],
        b"\xff\xff\xff\xff" * 4,
        whole[:8],
    ):
        assert refused(None, body=body).status in (400, 422)


def test_more_rows_than_the_limit_are_refused_from_the_metadata(refused):
    nothing = pa.table({"area": pa.nulls(10**8), "rooms": pa.nulls(10**8)})
    if len(as_arrow(nothing)) < 10_000:  # a hundred million rows in a kilobyte
        found = refused(nothing, most_rows=1000)
        assert (found.status, found.kind) == (413, "too-many-rows")
    assert refused(pa.table({"area": [1.0] * 4}), most_rows=3).status == 413


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr("charkha.serving.dialects.pyarrow.MOST_BYTES", 8 << 20)


def test_an_arrow_stream_that_inflates_is_refused_before_it_does(kit, narrow):
    table = pa.table({"area": np.zeros(1_000_000), "rooms": np.zeros(1_000_000, np.int32)})
    body = as_arrow(table, compression="zstd")
    assert len(body) < 20_000
    found = kit.problem(kit.dialect_of("arrow", most_rows=10**9), body)
    assert (found.status, found.kind) == (413, "too-large")


def test_a_parquet_file_that_inflates_is_refused_before_it_does(kit, narrow):
    table = pa.table({"area": np.zeros(1_500_000), "rooms": np.zeros(1_500_000, np.int32)})
    options = {"compression": "zstd", "use_dictionary": False}
    for page in ("1.0", "2.0"):
        body = as_parquet(table, data_page_version=page, **options)
        assert len(body) < 50_000
        found = kit.problem(kit.dialect_of("parquet", most_rows=10**9), body)
        assert (found.status, found.kind) == (413, "too-large")
        small = as_parquet(table.slice(0, 9), data_page_version=page, **options)
        assert len(kit.dialect_of("parquet").read(small, {}).rows) == 9


def test_columns_that_are_not_read_may_be_as_large_as_they_like(kit, narrow):
    table = pa.table({"more": np.zeros(1_500_000), "rooms": np.zeros(1_500_000, np.int32)})
    body = as_parquet(table, compression="zstd", use_dictionary=False)
    dialect = kit.dialect_of("parquet", [{"name": "rooms", "type": "long"}], most_rows=10**9)
    assert len(dialect.read(body, {}).rows) == 1_500_000


def test_one_long_text_in_every_row_is_refused(kit, form):
    text = pa.array(["x" * 1_000_000]).dictionary_encode()
    repeated = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), text.dictionary)
    body = WRITERS[form](pa.table({"t": repeated}))
    assert len(body) < 1_100_000
    dialect = kit.dialect_of(form, [{"name": "t", "type": "string"}])
    assert (found := kit.problem(dialect, body)).status == 413, found


def test_nor_does_it_stand_in_memory_once_for_every_row(kit):
    texts = pa.DictionaryArray.from_arrays(np.zeros(600, np.int32), ["x" * 1_000_000])
    body = as_parquet(pa.table({"t": texts}), store_schema=False)  # that would say it as well
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    kit.problem(kit.dialect_of("parquet", [{"name": "t", "type": "string"}]), body)
    assert pool.max_memory() < before + 100_000_000


def test_an_encoding_that_repeats_without_limit_is_not_read(kit):
    table = pa.table({"t": ["x" * 1000 + str(n) for n in range(1000)]})
    body = as_parquet(table, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY"})
    found = kit.problem(kit.dialect_of("parquet", [{"name": "t", "type": "string"}]), body)
    assert (found.status, "DELTA_BYTE_ARRAY" in found.detail) == (400, True)
    for encoding in ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY"):
        body = as_parquet(table, use_dictionary=False, column_encoding={"t": encoding})
        dialect = kit.dialect_of("parquet", [{"name": "t", "type": "string"}])
        assert len(dialect.read(body, {}).rows) == 1000


@pytest.mark.parametrize("classes", [None, [False, True], [1, 2], ["a", "b"]])
def test_the_answer_is_a_table_in_the_same_form(kit, form, classes):
    dialect = kit.dialect_of(form, kit.NUMBERS, classes)
    table = pa.table({name: [1.0, 2.0] for name in "abc"})
    values = [1.5, 2.5] if classes is None else classes
    said = kit.said_of(values, None if classes is None else [[0.25, 0.75], [1, 0]])
    body, headers = dialect.write(dialect.read(WRITERS[form](table), {}), said)
    kind = {"arrow": "arrow.stream", "parquet": "parquet"}[form]
    assert headers == [(b"content-type", f"application/vnd.apache.{kind}".encode())]
    told = (
        pa.ipc.open_stream(body).read_all()
        if form == "arrow"
        else pq.read_table(pa.BufferReader(body))
    )
    wanted = {"id": list(said.ids), "prediction": values}
    if classes is not None:
        wanted |= {f"probability.{classes[0]}": [0.25, 1], f"probability.{classes[1]}": [0.75, 0]}
    assert told.to_pydict() == wanted
    assert told.schema.metadata[b"variant"] == b"blue"


def test_the_answer_is_json_where_that_is_asked_for(kit, form):
    dialect = kit.dialect_of(form, kit.NUMBERS)
    body = WRITERS[form](pa.table({name: [1.0] for name in "abc"}))
    reading = dialect.read(body, kit.headers_of(accept="application/json"))
    told, headers = dialect.write(reading, kit.said_of([1.5]))
    assert headers == [(b"content-type", b"application/json")]
    assert json.loads(told)["predictions"] == [1.5]
