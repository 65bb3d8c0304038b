import datetime as dt
import decimal
import uuid
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from charkha.errors import UserError
from charkha.pipeline.codecs.contract import CodecContract
from charkha.pipeline.codecs.npy import NpyCodec
from charkha.pipeline.codecs.parquet import ParquetCodec

DAY = dt.date(2008, 9, 15)
RECORD = np.dtype([("a", "i1"), ("b", "f8"), ("c", [("x", "i2"), ("y", "i8")], (2,))], align=True)


def records(gap):
    """Records of one value whose gaps between the fields are filled with the byte `gap`."""
    made = np.full(RECORD.itemsize * 4, gap, np.uint8).view(RECORD)
    for name, value in (("a", 1), ("b", 0.5), ("c", (2, 3))):
        made[name] = value
    return made


class TestNpy(CodecContract):
    codec_class = NpyCodec

    @staticmethod
    def samples():
        return [
            np.arange(6).reshape(2, 3),
            np.array(1.5),
            np.zeros((0, 3), np.float32),
            np.array([np.nan, -0.0, np.inf]),
            np.array([True, False]),
            np.array(["a", "bü"]),
            np.array([b"a", b"b\x00c"]),
            np.array(["2024", "NaT"], "M8[ns]"),
            np.array([1, 2], ">i4"),
            np.array([1j]),
            np.array([1.5], np.float16),
            records(0),
            np.arange(100_000, dtype=np.uint16),
        ]

    @staticmethod
    def changes():
        return [
            (np.arange(3), np.arange(4), ["shape (3,) → (4,)"]),
            (np.arange(3), np.arange(3.0), ["dtype int64 → float64"]),
            (np.eye(3), np.ones((3, 3)), ["6 of 9 elements, the first at [0, 1]"]),
            (np.array([np.nan, 1]), np.array([np.nan, 2]), ["1 of 2 elements, the first at [1]"]),
        ]

    def same(self, one, other):
        return (type(one), one.dtype, one.shape, one.tobytes()) == (
            type(other),
            other.dtype,
            other.shape,
            other.tobytes(),
        )

    def test_the_order_in_memory_is_not_part_of_the_value(self, codec):
        rows = np.arange(6).reshape(2, 3)
        columns = np.asfortranarray(rows)
        assert bytes(codec.encode(rows)) == bytes(codec.encode(columns))
        assert bytes(codec.encode(rows[:, ::2])) == bytes(codec.encode(rows[:, ::2].copy()))

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_what_lies_between_the_fields_of_a_record_is_no_part_of_the_value(self, codec, order):
        one, other = (records(gap).reshape((2, 2), order=order) for gap in (1, 2))
        assert one.tobytes() != other.tobytes()
        assert bytes(codec.encode(one)) == bytes(codec.encode(other))
        assert (codec.decode(codec.encode(one), None) == one).all()

    def test_an_array_that_came_back_can_be_written_to(self, codec):
        array = codec.decode(codec.encode(np.zeros(3)), None)
        array[0] = 1
        assert array.sum() == 1

    @pytest.mark.parametrize(
        ("value", "what"),
        [
            (np.array([1, "a"], object), "dtype object"),
            (np.ma.masked_array([1, 2], [True, False]), "MaskedArray"),
            (np.float64(1), "float64 is not a plain array"),
        ],
    )
    def test_what_would_come_back_as_something_else_is_refused(self, codec, value, what):
        with pytest.raises(UserError, match=what):
            codec.encode(value)


def categories(values, order, *, ordered=False):
    return pd.Categorical(values, categories=order, ordered=ordered)


def typed_columns():
    """Columns of every type that pandas has and Parquet can keep."""
    times = pd.DatetimeIndex(["2024-03-31 01:30", None, "2024-10-27 00:30"])
    return {
        "int8": np.array([1, -2, 3], np.int8),
        "uint64": np.array([1, 2, 2**64 - 1], np.uint64),
        "float16": np.array([1.5, np.nan, -0.0], np.float16),
        "float64": np.array([0.1, np.nan, -np.inf]),
        "bool": np.array([True, False, True]),
        "text": ["a", "ü", ""],
        "category": categories(["x", None, "z"], ["z", "y", "x"], ordered=True),
        "category of int": categories([2**60 + 1, None, 1], [2**60 + 1, 2**60, 1]),
        "category of times": categories(times, times[[2, 0]]),
        "category of bins": pd.cut([1.0, np.nan, 3.0], 2),
        "interval": pd.arrays.IntervalArray.from_breaks([1, 2, 3, 4]),
        "period": pd.period_range("2024-01", periods=3, freq="M"),
        "times": times,
        "times in s": times.as_unit("s"),
        "times in Berlin": times.tz_localize("UTC").tz_convert("Europe/Berlin"),
        "times in a ZoneInfo": times.tz_localize("UTC").tz_convert(ZoneInfo("Europe/Berlin")),
        "times east": times.tz_localize(dt.timezone(dt.timedelta(hours=2))),
        "times in UTC": times.tz_localize("UTC").as_unit("ms"),
        "span": pd.to_timedelta([1, None, 3], "s"),
        "span in s": pd.to_timedelta([1, 2, 3], "s").as_unit("s"),
        "Int64": pd.array([2**60 + 1, None, 3], dtype="Int64"),
        "Float32": pd.array([0.5, None, 3], dtype="Float32"),
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "string": pd.array(["a", None, ""], dtype="string[python]"),
        "string in Arrow": pd.array(["a", None, ""], dtype="string[pyarrow]"),
        "Arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
    }


def object_columns():
    """Object columns: of one type, whatever stands for what is missing."""
    columns = {
        "missing as None": ["a", None, None],
        "missing as NaN": ["a", np.nan, np.nan],
        "missing as both": ["a", None, np.nan],
        "missing as all": [None, pd.NA, pd.NaT],
        "nothing": [None, None, None],
        "bool": [True, False, True],
        "bool or not": [True, None, False],
        "int": [1, 2**62, np.nan],
        "float": [1.0, np.nan, None],
        "bytes": [b"\x00", b"", None],
        "date": [DAY, None, DAY],
        "time": [dt.time(1, 2, 3, 4), None, dt.time(0)],
        "datetime": [dt.datetime(2024, 1, 1, 2, 3, 4, 5), None, dt.datetime(1, 1, 1)],
        "span": [dt.timedelta(days=-1, microseconds=1), None, dt.timedelta(0)],
        "decimal": [decimal.Decimal("1.10"), None, decimal.Decimal("-2.25")],
        "list": [[1, 2], [], None],
        "list of text": [["a", None], [], ["b"]],
        "dict": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, None],
        "vector": [np.array([1, 2], np.float32), np.array([np.nan], np.float32), None],
        "numpy text": [np.str_("a"), np.str_("b"), None],
        "numpy float": [np.float32(0.1), np.float32(2), None],
    }
    made = {}
    for name, values in columns.items():
        made[name] = np.empty(3, object)
        for i, value in enumerate(values):
            made[name][i] = value
    return made


def frames():
    plain = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    attributed = plain.copy()
    attributed.attrs = {"source": ("De Cock", 2011)}
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None])
    days = pd.date_range("2024", periods=2, freq="W-SUN")
    return [
        plain,
        attributed,
        pd.DataFrame(typed_columns()),
        pd.DataFrame(object_columns()),
        pd.DataFrame(),
        pd.DataFrame({"a": np.array([], np.float64), "b": np.array([], object)}),
        pd.DataFrame(index=[1, 2, 3]),
        pd.DataFrame(np.eye(2)),
        plain.set_axis(pairs, axis=1),
        plain.set_axis(["a", "a"], axis=1),
        plain.set_axis(["a", "a.1"], axis=1).rename_axis(columns="c"),
        plain.set_axis(pd.CategoricalIndex(["a", "b"]), axis=1),
        plain.set_axis(days, axis=1),
        plain.set_axis(pd.RangeIndex(5, 9, 2, name="r")),
        plain.set_axis(pd.Index(["x", None], name="a")),
        plain.set_axis(pd.Index([DAY, np.nan])),
        plain.set_axis(pd.Index([1, 2], dtype=np.int8, name=("t", 1))),
        plain.set_axis(pairs),
        plain.set_axis(days),
        plain.set_axis(pd.CategoricalIndex(["a", "b"], categories=["b", "a"])),
        plain.set_axis(pd.Index(["a", None], dtype="string[python]")),
    ]


def tables():
    return [
        pa.table({"a": [1, None], "b": ["x", "y"]}),
        pa.table({"a": pa.array([1], pa.timestamp("s")), "b": pa.array([1], pa.uint8())}),
        pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "b": [[1], [], None]}),
        pa.table({"a": [1]}).replace_schema_metadata({"unit": "USD"}),
        pa.table({}),
    ]


def all_identical(one, other):
    """Compare object by object, for pandas takes None and NaN, or 1 and True, for equal."""
    pairs = zip(
        one.to_numpy(dtype=object).ravel(), other.to_numpy(dtype=object).ravel(), strict=True
    )
    return all(type(a) is type(b) and repr(a) == repr(b) for a, b in pairs)


class TestParquet(CodecContract):
    codec_class = ParquetCodec

    @staticmethod
    def samples():
        series = [pd.Series([1.5, None]), pd.Series(["a"], index=["x"], name=("n", 1))]
        return [*frames(), *series, *tables()]

    @staticmethod
    def changes():
        old = pd.DataFrame({"Lot_Area": [1, 2], "Gr_Liv_Area": [0.5, np.nan], "Street": ["a", "b"]})
        more = pd.concat([old, old], ignore_index=True)
        return [
            (old, old.assign(Gr_Liv_Area=[0.5, 1]), ["column Gr_Liv_Area"]),
            (old, old.assign(Gr_Liv_Area=[1, 2]), ["column Gr_Liv_Area"]),
            (old, old.drop(columns="Street"), ["column Street removed"]),
            (old, old.assign(Pool=1), ["column Pool added"]),
            (old, more, ["2 rows more"]),
            (more, old, ["2 rows fewer"]),
            (old, old[["Street", "Lot_Area", "Gr_Liv_Area"]], ["order of the columns"]),
            (old.set_index("Street"), old.set_index("Street").set_axis(["a", "c"]), ["the index"]),
            (old, old.set_axis(pd.RangeIndex(1, 3)), ["index"]),
            (
                pd.DataFrame(np.zeros((1, 20))),
                pd.DataFrame(np.ones((1, 20))),
                [*(f"column {i}" for i in range(8)), "12 columns more"],
            ),
        ]

    def same(self, one, other):
        if type(one) is not type(other):
            return False
        if isinstance(one, pa.Table):
            return one.equals(other, check_metadata=True)
        frame, wanted = (x.to_frame() if isinstance(x, pd.Series) else x for x in (one, other))
        pd.testing.assert_frame_equal(
            frame.iloc[:, :0], wanted.iloc[:, :0], check_column_type="exact"
        )
        assert frame.dtypes.tolist() == wanted.dtypes.tolist()
        assert type(frame.index) is type(wanted.index)
        pd.testing.assert_index_equal(frame.index, wanted.index, exact=True)
        assert frame.attrs == wanted.attrs
        assert getattr(frame.index, "freq", None) == getattr(wanted.index, "freq", None)
        columns = range(frame.shape[1])
        return all(all_identical(frame.iloc[:, i], wanted.iloc[:, i]) for i in columns)

    def test_categories_come_back_with_those_that_no_row_has(self, codec):
        column = pd.Series(categories(["x"], ["z", "y", "x"], ordered=True))
        assert codec.decode(codec.encode(column), None).dtype == column.dtype

    def test_a_frame_of_one_block_can_be_written_to_when_it_came_back(self, codec):
        for frame in (pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1], "b": [2]})):
            back = codec.decode(codec.encode(frame), None)
            back.iloc[0, 0] = 7
            back["a"].to_numpy()[0] = 8
            assert back.iloc[0, 0] == 8

    def test_how_a_table_is_cut_into_chunks_is_no_part_of_its_value(self, codec):
        whole = pa.table({"a": list(range(1000)), "b": [str(i % 7) for i in range(1000)]})
        cut = pa.concat_tables([whole.slice(0, 300), whole.slice(300)])
        later = pa.concat_tables([whole.slice(0, 5), whole]).slice(5)
        assert bytes(codec.encode(cut)) == bytes(codec.encode(whole)) == bytes(codec.encode(later))

    def test_how_a_frame_was_built_is_no_part_of_its_value(self, codec):
        built = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
        grown = pd.DataFrame({"b": ["x", "y", "z"]})
        grown.insert(0, "a", [1, 2, 3])
        cut = pd.concat([built, built], ignore_index=True).iloc[:3]
        assert bytes(codec.encode(grown)) == bytes(codec.encode(cut)) == bytes(codec.encode(built))

    def test_a_frame_can_be_had_as_a_table_and_a_table_as_a_frame(self, codec):
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
        table = codec.decode(codec.encode(frame), pa.Table)
        assert table.equals(pa.table({"a": [1, 2], "b": ["x", None]}), check_metadata=True)
        back = codec.decode(codec.encode(table), pd.DataFrame)
        pd.testing.assert_frame_equal(back, frame)
        assert codec.decode(codec.encode(frame[["a"]]), pd.Series).tolist() == [1, 2]

    def test_a_wide_frame_is_no_series(self, codec):
        with pytest.raises(UserError, match="2 columns"):
            codec.decode(codec.encode(pd.DataFrame({"a": [1], "b": [2]})), pd.Series)

    def test_any_reader_of_parquet_can_read_the_bytes(self, codec):
        data = codec.encode(pd.DataFrame({"a": [1], "c": categories(["x"], ["y", "x"])}))
        assert pq.read_table(pa.BufferReader(data)).to_pydict() == {"a": [1], "c": ["x"]}

    @pytest.mark.parametrize("library", [b"pandas_version", pd.__version__.encode(), b"creator"])
    def test_the_note_in_the_file_holds_no_version_of_pandas(self, codec, library):
        data = codec.encode(pd.DataFrame({"a": [1]}))
        metadata = pq.read_schema(pa.BufferReader(data)).metadata
        assert library not in b"".join([*metadata, *metadata.values()])

    @pytest.mark.parametrize(
        ("values", "what"),
        [
            (["a", 1, 2], r"column 'Pool' holds values of several types \(2 int, 1 str\)"),
            ([True, 1, 0], "several types"),
            ([2**70, 1, 2], "column 'Pool'.* int"),
            ([uuid.UUID(int=1)] * 3, "column 'Pool'.* UUID"),
            ([{"a": 1}, {"b": 2}, {}], "column 'Pool'.* dict"),
            ([[1, 2.5], [], []], "column 'Pool'.* list"),
            ([decimal.Decimal("1.10"), decimal.Decimal("1.1"), None], "column 'Pool'.* Decimal"),
            ([decimal.Decimal("NaN"), None, None], "column 'Pool'.* Decimal"),
            ([np.eye(2), np.eye(2), None], "column 'Pool'.* ndarray"),
            ([(1, 2), (3,), None], "column 'Pool'.* tuple"),
        ],
    )
    def test_an_object_column_that_would_change_is_refused_by_name(self, codec, values, what):
        column = np.empty(3, object)
        for i, value in enumerate(values):
            column[i] = value
        with pytest.raises(UserError, match=what):
            codec.encode(pd.DataFrame({"Street": ["a", "b", "c"], "Pool": column}))

    @pytest.mark.parametrize(
        "values", [np.array([1j]), pd.arrays.SparseArray([0]), np.array([1], ">i4")]
    )
    def test_a_type_that_parquet_lacks_is_refused_by_the_name_of_its_column(self, codec, values):
        with pytest.raises(UserError, match="column 'a' is of type"):
            codec.encode(pd.DataFrame({"a": values}))

    def test_an_index_that_parquet_lacks_is_refused(self, codec):
        with pytest.raises(UserError, match="the index holds values of several types"):
            codec.encode(pd.DataFrame({"a": [1, 2]}, index=[1, "a"]))

    def test_labels_of_several_types_are_refused(self, codec):
        with pytest.raises(UserError, match="several types"):
            codec.encode(pd.DataFrame([[1, 2]], columns=["a", 1]))

    def test_attrs_that_json_cannot_keep_are_refused(self, codec):
        frame = pd.DataFrame({"a": [1]})
        frame.attrs = {"x": object()}
        with pytest.raises(UserError, match="attrs"):
            codec.encode(frame)

    def test_a_frame_of_a_class_of_ones_own_is_refused(self, codec):
        class Mine(pd.DataFrame):
            pass

        with pytest.raises(UserError, match="Mine"):
            codec.encode(Mine({"a": [1]}))

    def test_a_type_of_arrow_that_parquet_lacks_is_refused(self, codec):
        with pytest.raises(UserError, match="dictionary"):
            codec.encode(pa.table({"a": pa.array([5, 6, 5]).dictionary_encode()}))

    def test_a_nan_of_a_table_is_no_difference(self, codec):
        data = codec.encode(pa.table({"a": [float("nan"), 1.0], "b": [[float("nan")], []]}))
        assert codec.difference(data, data) == []

    def test_a_frame_of_polars_comes_back_as_one(self, codec):
        polars = pytest.importorskip("polars")
        kinds = polars.Enum(["a", "b"])
        frame = polars.DataFrame(
            {
                "x": [1, None],
                "s": ["ü", None],
                "t": [DAY, None],
                "l": [[1.5], []],
                "k": ["b", None],
            },
            schema_overrides={"x": polars.UInt8, "k": kinds},
        )
        back = codec.decode(codec.encode(frame), None)
        assert back.equals(frame)
        assert back.schema == frame.schema
        assert codec.decode(codec.encode(frame), pa.Table).column_names == ["x", "s", "t", "l", "k"]
        assert codec.decode(codec.encode(pd.DataFrame({"a": [1]})), polars.DataFrame).shape == (
            1,
            1,
        )

    def test_a_type_of_polars_that_parquet_lacks_is_refused_by_column(self, codec):
        polars = pytest.importorskip("polars")
        with pytest.raises(UserError, match="'o'"):
            codec.encode(polars.DataFrame({"o": [object()]}, schema={"o": polars.Object}))

    def test_a_table_with_two_columns_of_one_name_is_refused(self, codec):
        with pytest.raises(UserError, match="one name"):
            codec.encode(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]))
