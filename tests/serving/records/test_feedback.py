import json
import math
import random
import string
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from charkha.errors import DataError
from charkha.serving.problems import Problem
from charkha.serving.records import open_feedback
from charkha.serving.records.feedback import Feedback, read_feedback_body
from charkha.serving.records.ids import new_ids, time_of
from charkha.serving.records.outcomes import read_outcomes

ID = new_ids(1)[0]
OTHER = new_ids(1)[0]


def body(*rows):
    return json.dumps(rows[0] if len(rows) == 1 else rows).encode()


@pytest.mark.parametrize("truth", [1, 1.5, -0.0, "yes", "", True, False, 2**63 - 1, "🏠"])
def test_one_object_is_one_feedback(truth):
    (found,) = read_feedback_body(body({"id": ID, "ground_truth": truth}))
    assert found == Feedback(id=ID, truth=truth)
    assert type(found.truth) is type(truth)


def test_a_list_is_as_many_in_their_order():
    rows = [{"id": i, "ground_truth": n} for n, i in enumerate((ID, OTHER, ID))]
    assert [f.truth for f in read_feedback_body(body(*rows))] == [0, 1, 2]
    assert read_feedback_body(b"[]") == []


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T12:00:00+02:00", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00:00", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_time_is_iso_8601_and_in_utc_where_it_has_no_zone(time, at):
    (found,) = read_feedback_body(body({"id": ID, "ground_truth": 1, "time": time}))
    assert found.at == at


def test_an_id_may_be_written_in_capitals():
    (found,) = read_feedback_body(body({"id": ID.upper(), "ground_truth": 1}))
    assert found.id == ID


GOOD = {"id": OTHER, "ground_truth": 1}
FUTURE = "f0000000-0000-7000-8000-000000000000"
BAD = [
    ({"id": ID}, "/ground_truth"),
    ({"ground_truth": 1}, "/id"),
    ({"id": 7, "ground_truth": 1}, "/id"),
    ({"id": "7", "ground_truth": 1}, "/id"),
    ({"id": str(UUID(int=7)), "ground_truth": 1}, "/id"),
    ({"id": FUTURE, "ground_truth": 1}, "/id"),
    ({"id": "ffffffff-ffff-7fff-bfff-ffffffffffff", "ground_truth": 1}, "/id"),
    ({"id": "00000000-0000-7000-8000-000000000000", "ground_truth": 1}, "/id"),
    ({"id": ID, "ground_truth": None}, "/ground_truth"),
    ({"id": ID, "ground_truth": [1]}, "/ground_truth"),
    ({"id": ID, "ground_truth": {"a": 1}}, "/ground_truth"),
    ({"id": ID, "ground_truth": 2**64}, "/ground_truth"),
    ({"id": ID, "ground_truth": "x" * 10_001}, "/ground_truth"),
    ({"id": ID, "ground_truth": 1, "time": 7}, "/time"),
    ({"id": ID, "ground_truth": 1, "time": "soon"}, "/time"),
    ({"id": ID, "ground_truth": 1, "time": "1969-12-31"}, "/time"),
    ({"id": ID, "ground_truth": 1, "time": "0001-01-01T00:00:00+23:59"}, "/time"),
    ({"id": ID, "ground_truth": 1, "time": "9999-12-31T23:59:59-23:59"}, "/time"),
    ({"id": ID, "truth": 1}, "/"),
    ({"id": ID, "ground_truth": 1, "a/b~c": 1}, "/a~1b~0c"),
    ({}, "/id"),
]


@pytest.mark.parametrize(("row", "pointer"), BAD)
def test_what_is_wrong_is_told_with_its_place_and_nothing_of_others(row, pointer):
    for rows, place in (([row], ""), ([GOOD, row, GOOD], "/1")):
        with pytest.raises(Problem) as caught:
            read_feedback_body(body(*rows))
        assert caught.value.status == 422
        (error,) = caught.value.errors
        assert error["pointer"].startswith(f"#{place}{pointer}")
        assert OTHER not in json.dumps(caught.value.as_json())
        assert ("feedback 2" in caught.value.detail) == bool(place)


@pytest.mark.parametrize("text", [b"", b"{", b"[", b"\xff", b"{'a': 1}", b"NaN", b'{"id": "x',
                                  b'[{"id": 1}', b"[" * 100_000, b'{"a":' * 100_000])  # fmt: skip
def test_what_is_no_json_is_malformed(text):
    with pytest.raises(Problem) as caught:
        read_feedback_body(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", [b"1", b"null", b'"x"', b"[1]", b"[[]]", b"[null]", b"true"])
def test_what_is_no_object_is_no_feedback(text):
    with pytest.raises(Problem) as caught:
        read_feedback_body(text)
    assert caught.value.status == 422


def found_in(text):
    """Return the feedback in a body; none where it was refused as it should be."""
    try:
        return read_feedback_body(text)
    except Problem as e:
        if e.status not in (400, 422):
            raise
        return []


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, "1" * 400 + ".5", "1e-999"])
def test_a_number_that_no_type_holds_is_never_our_fault(number):
    found = found_in(f'{{"id": "{ID}", "ground_truth": {number}}}'.encode())
    assert all(math.isfinite(f.truth) for f in found)


def test_no_body_whatsoever_is_an_error_of_ours():
    chance = random.Random(7)
    good = body(GOOD, {"id": ID, "ground_truth": "x", "time": "2026-11-24"})
    alphabet = [*string.printable, "é", '"', "{", "[", "null", "\\ud800", "1e400"]
    for _ in range(20_000):
        text = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randint(0, 4)] = chance.choice(alphabet).encode()
        msgspec.json.encode([f.truth for f in found_in(bytes(text))])


def test_feedback_is_in_the_log_before_append_returns_and_in_order(kept):
    log = open_feedback(kept.project)
    rows = [Feedback(id=ID, truth=n) for n in range(3)]
    log.append(rows)
    (file,) = kept.logs()
    head, *lines = file.read_bytes().splitlines()
    found = [json.loads(line) for line in lines]
    assert [(id, truth) for id, truth, _, _ in found] == [(ID, 0), (ID, 1), (ID, 2)]
    assert [at for _, _, at, _ in found] == [received for *_, received in found]
    assert len({received for *_, received in found}) == 3
    log.append([])
    assert len(file.read_bytes().splitlines()) == 4


def test_feedback_is_sealed_by_the_day_of_its_prediction(kept):
    log = open_feedback(kept.project)
    old = "0192f5c7-8a1e-7000-8abc-0123456789ab"  # of 2024-11-04
    log.append([Feedback(id=old, truth=1), Feedback(id=ID, truth="x", at=datetime.now(UTC))])
    log.close()
    kept.seal()
    today = time_of(ID).date().isoformat()
    days = [name.rpartition("/")[0] for name in kept.files()]
    assert days == ["feedback/day=2024-11-04", f"feedback/day={today}"]


def test_a_damaged_feedback_is_set_aside(kept):
    log = open_feedback(kept.project)
    log.append([Feedback(id=ID, truth=1), Feedback(id=OTHER, truth=2)])
    log.close()
    (file,) = kept.logs()
    file.write_bytes(file.read_bytes().replace(ID.encode(), b"nonsense"))
    done = kept.seal()
    assert (done.rows, done.damaged) == (1, 1)


class TestFiles:
    def read(self, data, form="csv", **names):
        return read_outcomes(data, form, names, "file")

    def test_a_csv_has_numbers_truths_and_texts(self):
        cells = {
            "1": 1,
            "1.5": 1.5,
            "1e3": 1000.0,
            "true": True,
            "yes": "yes",
            "NaN": "NaN",
            '""': None,
        }
        text = "id,ground_truth\n" + "".join(f"{ID},{cell}\n" for cell in cells)
        found = self.read(text.encode())
        assert [f.truth for f in found.feedback] == [v for v in cells.values() if v is not None]
        assert found.wrong == ["row 7: ground_truth: Expected a value, there is none"]

    def test_a_time_may_stand_beside(self):
        text = f"time,id,ground_truth,note\n2026-11-24,{ID},1,x\n,{ID},2,y\nsoon,{ID},3,z\n"
        found = self.read(text.encode("utf-8-sig"))
        assert [f.at for f in found.feedback] == [datetime(2026, 11, 24, tzinfo=UTC), None]
        assert found.wrong == [
            "row 3: time: Expected a date in ISO 8601, such as 2026-11-24T10:00:00Z"
        ]

    def test_columns_may_have_other_names(self):
        text = f"price,when,prediction_id\n7,2026-11-24,{ID}\nx,soon,7\n".encode()
        found = self.read(text, id="prediction_id", ground_truth="price", time="when")
        assert [f.truth for f in found.feedback] == [7]
        assert found.wrong[0].startswith("row 2: prediction_id: ")

    @pytest.mark.parametrize(
        ("text", "names", "fix"),
        [
            ("id,ground_truht\n1,2\n", {}, "--column ground_truth=ground_truht"),
            ("id,ground_truth\n1,2\n", {"time": "when"}, "--column time=NAME"),
            ("id,ground_truth\n1,2\n", {"id": "idd"}, "--column id=id"),
            ("", {}, "first line"),
        ],
    )
    def test_a_file_that_lacks_a_column_is_refused_with_the_way_out(self, text, names, fix):
        with pytest.raises(DataError) as caught:
            self.read(text.encode(), **names)
        assert fix in (caught.value.fix or "")

    def test_a_row_with_more_or_fewer_cells_is_told(self):
        found = self.read(f"id,ground_truth\n{ID},1,2\n{ID}\n{ID},3\n".encode())
        assert [f.truth for f in found.feedback] == [3]
        assert [line[:6] for line in found.wrong] == ["row 1:", "row 2:"]

    def test_json_lines_keep_their_types(self):
        rows = [{"id": ID, "ground_truth": v} for v in (1, 1.5, True, "1", None, [1], math.nan)]
        lines = "\n\n".join(map(json.dumps, rows)) + "\n{\n7\n"
        lines += f'{{"id": "{ID}", "ground_truth": "half \\ud800"}}'
        found = self.read(lines.encode(), "jsonl")
        assert [f.truth for f in found.feedback] == [1, 1.5, True, "1"]
        assert [line.partition(":")[0] for line in found.wrong] == [
            f"row {n}" for n in range(5, 11)
        ]

    def test_a_parquet_file_keeps_its_types(self):
        when = [datetime(2026, 11, 24, 10, tzinfo=UTC), None]
        for times, truths in (
            (pa.array(when, pa.timestamp("ns", "Europe/Berlin")), [1.5, 2.5]),
            (pa.array([date(2026, 11, 24), None]), [Decimal("1.5"), Decimal("2.5")]),
            (pa.array(["2026-11-24", None]), pa.array(["a", "b"]).dictionary_encode()),
        ):
            sink = pa.BufferOutputStream()
            parquet.write_table(
                pa.table({"id": [ID, OTHER], "ground_truth": truths, "time": times}), sink
            )
            found = self.read(sink.getvalue().to_pybytes(), "parquet")
            assert found.wrong == []
            assert [f.id for f in found.feedback] == [ID, OTHER]
            assert [f.at and f.at.date() for f in found.feedback] == [date(2026, 11, 24), None]

    @pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
    def test_a_file_of_something_else_is_refused(self, form):
        with pytest.raises(DataError, match="file"):
            self.read(b"\xff\xfe\x00PAR1" * 10, form)


def test_an_id_of_tomorrow_is_taken_and_one_of_next_week_is_not():
    def id_of(moment):
        ms = int(moment.timestamp() * 1000)
        return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-000000000000"

    now = datetime.now(UTC)
    assert read_feedback_body(body({"id": id_of(now + timedelta(hours=23)), "ground_truth": 1}))
    with pytest.raises(Problem, match="no prediction was made at that time"):
        read_feedback_body(body({"id": id_of(now + timedelta(days=7)), "ground_truth": 1}))
