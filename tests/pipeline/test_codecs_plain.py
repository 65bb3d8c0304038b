import datetime as dt
import enum
import json
import math
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from charkha.errors import UserError
from charkha.pipeline.codecs.bytes import BytesCodec
from charkha.pipeline.codecs.contract import CodecContract
from charkha.pipeline.codecs.json import JsonCodec, is_json
from charkha.pipeline.codecs.pickle import PickleCodec

BERLIN = ZoneInfo("Europe/Berlin")


def identical(one, other):
    """Equal in value and exact type all the way down; a NaN is a NaN, 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            identical(a, b) for a, b in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, (dt.datetime, dt.time)):
        return (one, one.fold, one.tzinfo) == (other, other.fold, other.tzinfo)
    return one is other or one == other or repr(one) == repr(other)


class TestJson(CodecContract):
    codec_class = JsonCodec

    @staticmethod
    def samples():
        numbers = [0, -1, True, 2**53 + 1, 10**6000, -(2**4096), 0.1, -0.0, 5e-324, 1.0, 1e22]
        odd = [math.nan, math.inf, -math.inf, 1 - 0j, complex(math.nan, -0.0)]
        text = ["", "ü", "\U0001f600", "\ud83d\ude00", "\ud800", 'a"b\\c\n\x00', b"", b"\x00\xff"]
        containers = [[], [[1, [2]]], {}, {"b": 1, "a": {"c": None}}, (), (1, (2.0,)), {"": ()}]
        sets = [set(), {"a", "b", "c", 1, None, (1, 2)}, frozenset({frozenset({3}), 2.5})]
        keyed = [
            {1: "a", "1": "b", None: 0},
            {(1, 2): 3},
            {"$tuple": [1]},
            {"$": 1},
            {"$a": 1, "b": 2},
        ]
        times = [
            dt.date(2008, 9, 15),
            dt.datetime(2008, 9, 15, 1, 2, 3, 4),
            dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
            dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
            dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, seconds=1))),
            dt.datetime(2024, 1, 1, fold=1),
            dt.time(1, 2, 3, 4),
            dt.timedelta(days=-1, microseconds=1),
        ]
        others = [Decimal("1.10"), Decimal("-Infinity"), uuid.UUID(int=7)]
        numpy = [
            np.float64(0.1),
            np.float64("nan"),
            np.float32(0.1),
            np.float16("-inf"),
            np.int8(-8),
            np.uint64(2**64 - 1),
            np.bool_(True),
            np.str_("ü"),
            np.bytes_(b"a\x00b"),
            np.complex64(1 - 2j),
            np.datetime64("2024-01-01T01:02:03", "ns"),
            np.datetime64("NaT", "D"),
            np.timedelta64(3, "D"),
        ]
        pandas = [
            pd.Timestamp("2024-01-01 01:02:03.123456789"),
            pd.Timestamp("2024-01-01", tz="Europe/Berlin").as_unit("s"),
            pd.Timestamp("2024-01-01", tz=dt.timezone(dt.timedelta(hours=2))),
            pd.Timedelta(3, "us"),
            pd.NaT,
            pd.NA,
        ]
        every = [
            *numbers,
            *odd,
            *text,
            *containers,
            *sets,
            *keyed,
            *times,
            *others,
            *numpy,
            *pandas,
        ]
        return [None, *every, {"all": [*numbers, *text, *containers, *numpy]}]

    @staticmethod
    def changes():
        return [
            ({"rmse": 0.3, "n": 1}, {"rmse": 0.29, "n": 1}, ["rmse: 0.3 → 0.29"]),
            ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b[1]: 2 → 3"]),
            ({"a": 1}, {"b": 1}, ["a removed", "b added"]),
            ({"a": (1, 2)}, {"a": (1, 5)}, ["a[1]: 2 → 5"]),
            ([1], [1, 2, 3], ["2 elements more"]),
            ([1, 2], [1], ["1 elements fewer"]),
            (1, 1.0, ["1 → 1.0"]),
            (True, 1, ["true → 1"]),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["keys in another order"]),
            (
                list(range(20)),
                list(range(1, 21)),
                [*(f"[{i}]: {i} → {i + 1}" for i in range(8)), "and 12 more"],
            ),
        ]

    def same(self, one, other):
        return identical(one, other)

    def test_the_bytes_are_strict_json(self, codec):
        def refuse(constant):
            raise AssertionError(constant)

        for value in self.samples():
            text = codec.encode(value).decode("utf-8", "surrogatepass")
            json.loads(text, parse_constant=refuse)

    def test_the_order_of_a_dict_is_part_of_its_value(self, codec):
        assert codec.encode({"a": 1, "b": 2}) != codec.encode({"b": 2, "a": 1})
        assert list(codec.decode(codec.encode({"b": 2, "a": 1}), None)) == ["b", "a"]

    def test_the_order_in_which_a_set_was_filled_is_not(self, codec):
        words = [f"word-{i}" for i in range(50)]
        backwards = set()
        for word in reversed(words):
            backwards.add(word)
        assert codec.encode(set(words)) == codec.encode(backwards)

    @pytest.mark.parametrize(
        "garbage",
        [b'{"$nobody":1}', b'{"$set":[[1]]}', b'{"$int":"x"}', b'{"$date":5}', b"NaN", b"[" * 5000]
        + [
            b'{"$numpy":["O",1]}',
            b'{"$numpy":5}',
            b'{"$bytes":"a"}',
            b'{"$complex":[]}',
            b'"\xff"',
        ],
    )
    def test_a_tag_with_a_content_that_it_cannot_have_is_a_value_error(self, codec, garbage):
        with pytest.raises(ValueError):  # noqa: PT011  # in whatever words
            codec.decode(garbage, None)

    def test_what_contains_itself_is_refused(self, codec):
        knot = []
        knot.append(knot)
        assert is_json(knot)
        with pytest.raises(UserError, match="contains itself"):
            codec.encode(knot)

    def test_the_deepest_value_that_is_written_can_be_read(self, codec):
        deep = 0
        for _ in range(200):
            deep = {"a": deep}
        assert codec.decode(codec.encode(deep), None) == deep
        with pytest.raises(UserError, match="200 levels"):
            codec.encode([deep])


@dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        (Colour.RED, ".value"),
        (Path("x"), "File"),
        (OrderedDict(a=1), "dict(value)"),
        (Pair(1, 2), "_asdict"),
        (Point(1), "asdict"),
        (object(), "register_codec(object, YourCodec())"),
    ],
)
def test_a_type_of_ones_own_is_refused_with_what_to_return_instead(value, instead):
    assert not is_json(value)
    assert not is_json({"a": [value]})
    with pytest.raises(UserError) as caught:
        JsonCodec().encode([value])
    assert type(value).__name__ in caught.value.what
    assert instead in caught.value.fix


def test_a_time_of_another_zone_library_is_refused_with_the_one_to_use():
    zone = pd.Timestamp("2024-01-01", tz="Europe/Berlin").tzinfo  # of pytz
    with pytest.raises(UserError, match="zoneinfo"):
        JsonCodec().encode(dt.datetime(2024, 1, 1, tzinfo=zone))


def test_the_json_codec_is_there_without_any_library():
    code = """
import sys
from charkha.pipeline.codecs.json import JsonCodec, is_json
assert is_json({"a": [1, (2.5, b"x")]}) and not is_json(object())
JsonCodec().decode(JsonCodec().encode({"a": [1, (2.5, b"x"), {3}]}), None)
heavy = {"numpy", "pandas", "datetime", "decimal", "uuid", "zoneinfo"} & set(sys.modules)
raise SystemExit(str(heavy) if heavy else 0)
"""
    subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}{code}"], check=True
    )


class TestBytes(CodecContract):
    codec_class = BytesCodec
    any_bytes_are_valid = True

    @staticmethod
    def samples():
        return [b"", b"abc", bytes(range(256)) * 100]

    @staticmethod
    def changes():
        return [
            (b"abc", b"abcd", ["1 bytes more"]),
            (b"abc", b"", ["3 bytes fewer"]),
            (b"abc", b"abx", ["bytes from number 2 on"]),
        ]


class TestPickle(CodecContract):
    codec_class = PickleCodec

    @staticmethod
    def samples():
        return [None, [1, "a"], Decimal("1.5"), slice(1, 2), dt.date(2024, 1, 1), range(5)]

    @staticmethod
    def changes():
        return [([1], [2], [])]

    def test_what_cannot_be_pickled_is_said(self, codec):
        with pytest.raises(UserError, match="cannot be pickled"):
            codec.encode(lambda: 1)

    def test_a_pickle_whose_class_is_gone_says_what_it_needs(self, codec):
        gone = codec.encode(Decimal(1)).replace(b"Decimal", b"Decimak")
        with pytest.raises(UserError, match="code that is not here"):
            codec.decode(gone, None)
