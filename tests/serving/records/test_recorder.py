import json
import logging
import math
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import numpy as np
import pytest

from charkha.serving.records.ids import new_ids
from charkha.serving.records.replay import Replay, list_logs, take


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def values_in(kept):
    """Return what a reader finds as predictions."""
    from charkha.serving.records.reading import read_records

    return read_records("prices", project=kept.project)["prediction"].to_pylist()


def test_a_log_is_a_head_then_each_source_before_its_first_record(kept, source, record):
    recorder = kept.recorder()
    first, second = recorder.declare(source()), recorder.declare(source(version=2))
    recorder.append(first, [record(), record()])
    recorder.append(second, [record()])
    recorder.append(first, [record()])
    (log,) = kept.logs()
    head, *rest = lines_of(log)
    assert head == {"charkha": "predictions", "format": 1}
    assert [r["source"] if isinstance(r, dict) else [r[0]] for r in rest] == [
        0, [0], [0], 1, [1], [0],
    ]  # fmt: skip
    assert rest[0]["about"]["model"] == "prices"


def test_a_record_stands_as_it_was_given(kept, source, record):
    given = record(key="key-1", entities={"customer": "7"}, shares=[0.25, 0.75], value="yes")
    kept.record(given, source=source(classes=("no", "yes")))
    (log,) = kept.logs()
    assert lines_of(log)[-1] == json.loads(json.dumps([0, *given]))


def test_a_batch_is_one_write(kept, source, record, monkeypatch):
    recorder = kept.recorder()
    number = recorder.declare(source())
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or write(fd, data))
    recorder.append(number, [record() for _ in range(64)])
    recorder.append(number, [record()])
    assert len(written) == 2
    assert sum(written) + 40 > recorder.bytes_written >= sum(written)


@pytest.mark.parametrize(("durability", "synced"), [("process", 0), ("power", 3)])
def test_power_means_one_fsync_for_each_batch(
    kept, source, record, monkeypatch, durability, synced
):
    recorder = kept.recorder(durability=durability)
    number = recorder.declare(source())
    calls = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append(fd) or sync(fd))
    for size in (1, 8, 64):
        recorder.append(number, [record() for _ in range(size)])
    assert len(calls) == synced


def test_power_brings_the_name_of_the_log_to_the_disk_before_the_first_record(
    kept, source, monkeypatch
):
    synced = []
    sync = os.fsync

    def watched(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    kept.recorder(durability="power").declare(source())
    assert str(kept.open) in synced
    assert str(kept.open.parent) in synced


def test_rows_and_bytes_are_counted(kept, source, record):
    recorder = kept.recorder()
    number = recorder.declare(source())
    recorder.append(number, [record() for _ in range(5)])
    assert (recorder.written, recorder.lost, recorder.failing) == (5, 0, False)
    assert recorder.bytes_written == sum(p.stat().st_size for p in kept.logs()) - 37


def test_a_log_that_is_large_enough_is_followed_by_another_that_names_its_sources(
    kept, source, record
):
    recorder = kept.recorder(segment_bytes=2000)
    number = recorder.declare(source())
    given = [record() for _ in range(60)]
    for one in given:
        recorder.append(number, [one])
    logs = kept.logs()
    assert len(logs) > 3
    assert all("about" in lines_of(log)[1] for log in logs)
    assert [take(log) is None for log in logs] == [False] * (len(logs) - 1) + [True]
    assert kept.ids() == sorted(r[0] for r in given)


def test_a_log_that_is_old_enough_is_let_go_also_when_nobody_asks(kept, source, record):
    recorder = kept.recorder(segment_s=0.05)
    recorder.append(recorder.declare(source()), [record()])
    recorder.turn()
    (log,) = kept.logs()
    assert take(log) is None
    time.sleep(0.06)
    recorder.turn()
    assert take(log) is not None


def test_a_log_without_records_leaves_nothing_behind(kept, source):
    recorder = kept.recorder()
    recorder.declare(source())
    assert len(kept.logs()) == 1
    recorder.close()
    assert kept.logs() == []


def test_threads_write_whole_lines(kept, source, record):
    recorder = kept.recorder(segment_bytes=50_000)
    numbers = [recorder.declare(source(version=v)) for v in (1, 2, 3)]
    given = [[record() for _ in range(1 + n % 9)] for n in range(300)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: recorder.append(numbers[n % 3], given[n]), range(300)))
    assert kept.ids() == sorted(r[0] for batch in given for r in batch)
    assert recorder.written == sum(map(len, given))


def test_a_child_of_a_fork_writes_a_log_of_its_own(kept, script):
    script(
        """
import os, sys
from pathlib import Path
from conftest import Kept, make_record, make_source
recorder = Kept(Path(sys.argv[1])).recorder()
number = recorder.declare(make_source())
recorder.append(number, [make_record()])
for _ in range(3):
    if os.fork() == 0:
        recorder.append(number, [make_record(), make_record()])
        assert recorder.written == 2, recorder.written
        os._exit(0)
    assert os.wait()[1] == 0
recorder.append(number, [make_record()])
""",
        kept.project.root,
    )
    assert len(kept.logs()) == 4
    kept.seal()  # here, for Arrow's threads once ended a process that had forked with SIGABRT
    assert (len(kept.files()), len(kept.ids())) == (4, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_answers_no_number_is_recorded_with_that(kept, record, value):
    kept.record(record(value=1.5), record(value=value), record(value=-2.5))
    for _ in range(2):  # from the log, and sealed
        found = values_in(kept)
        assert [str(v) for v in found] == ["1.5", str(value), "-2.5"]
        kept.seal()


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**70), 10**30])
def test_a_huge_whole_number_is_recorded(kept, record, value):
    kept.record(record(value=1), record(value=value))
    kept.seal()
    assert [int(float(v)) for v in values_in(kept)] == [1, int(float(value))]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("é\u2028\x00\U0001f600\n\"\\", "é\u2028\x00\U0001f600\n\"\\"),
        ("half \ud800", "half ?"),
        (np.float64(1.5), 1.5),
        (np.int32(7), 7),
        (np.str_("n"), "n"),
        (True, True),
        (None, None),
    ],
)  # fmt: skip
def test_whatever_a_model_answers_the_log_stays_whole(kept, record, source, value, read):
    for classes in (None, ("a",)):
        kept.record(record(value=value), source=source(classes=classes))
        kept.seal()
    assert values_in(kept) == [read, read]


def test_probabilities_that_are_no_numbers_are_null(kept, record, source):
    kept.record(
        record(value=math.nan, shares=[math.nan, 0.5]), source=source(classes=("no", "yes"))
    )
    kept.seal()
    from charkha.serving.records.reading import read_records

    (row,) = read_records("prices", project=kept.project).to_pylist()
    assert (row["probability.no"], row["probability.yes"]) == (None, 0.5)


class TestRedaction:
    SECRETS = ("Wilhelmine-7Q", "Musterfrau-7Q", "31337.25")

    def redacted(self, kept, record, source, *, value=181234.5):
        inputs = ({"name": "area", "type": "double"}, {"name": "name", "type": "string"})
        kept.record(
            *(
                record(row=(31337.25, "Wilhelmine-7Q"), value=value, entities=e)
                for e in ({"customer": "Musterfrau-7Q", "shop": "7"}, None)
            ),
            source=source(inputs=inputs),
            redact=("area", "name", "customer"),
        )

    def test_a_redacted_value_is_in_no_file(self, kept, record, source):
        self.redacted(kept, record, source)
        unsealed = kept.bytes()
        kept.seal()
        for secret in self.SECRETS:
            assert secret.encode() not in unsealed + kept.bytes()

    def test_a_redacted_column_is_there_and_null(self, kept, record, source):
        from charkha.serving.records.reading import read_records

        self.redacted(kept, record, source)
        kept.seal()
        rows = read_records("prices", project=kept.project)
        assert rows["input.area"].to_pylist() == rows["input.name"].to_pylist() == [None, None]
        assert rows["entities"].to_pylist() == [[("shop", "7")], None]
        assert rows["prediction"].to_pylist() == [181234.5, 181234.5]

    def test_the_target_can_be_redacted(self, kept, record, source):
        from charkha.serving.records.reading import read_records

        given = record(value=31337.25, shares=[0.777125, 0.222875])
        kept.record(given, source=source(classes=("no", "yes")), redact=("price",))
        kept.record(record(value=31337.25), redact=("price",))
        kept.seal()
        assert values_in(kept) == [None, None]
        assert b"31337.25" not in kept.bytes()
        (first, _) = read_records("prices", project=kept.project).to_pylist()
        assert first.get("probability.yes") is None

    def test_a_value_that_json_has_no_word_for_is_hidden_as_any(self, kept, record, source):
        self.redacted(kept, record, source, value=math.inf)
        assert all(secret.encode() not in kept.bytes() for secret in self.SECRETS)

    def test_a_name_that_no_input_has_is_warned_of(self, kept, source, caplog):
        kept.recorder(redact=("distric", "price", "area")).declare(source())
        (warning,) = caplog.messages
        assert "no input 'distric' to redact; did you mean 'district'?" in warning


class TestSampling:
    def test_the_share_is_as_asked(self, kept, source, record):
        recorder = kept.recorder(sample=0.25)
        number = recorder.declare(source())
        for _ in range(20):
            recorder.append(number, [record(id) for id in new_ids(1000)])
        assert recorder.written + recorder.skipped == 20_000
        assert recorder.lost == 0
        assert abs(recorder.written - 5000) < 5 * math.sqrt(20_000 * 0.25 * 0.75)

    def test_the_id_alone_decides(self, kept, source, record):
        given = [record() for _ in range(500)]
        for batch in (given, *([one] for one in given)):
            kept.record(*batch, sample=0.3)
        expected = [r[0] for r in given if crc32(r[0].encode()) < 0.3 * 2**32]
        assert kept.ids() == sorted(expected * 2)

    @pytest.mark.parametrize(("sample", "written"), [(0, 0), (1, 100)])
    def test_none_and_all_are_exactly_that(self, kept, source, record, sample, written):
        recorder = kept.recorder(sample=sample)
        recorder.append(recorder.declare(source()), [record() for _ in range(100)])
        assert recorder.written == written


def test_no_records_are_no_write(kept, source):
    recorder = kept.recorder()
    number = recorder.declare(source())
    before = recorder.bytes_written
    recorder.append(number, [])
    assert recorder.bytes_written == before


def test_a_log_that_was_removed_is_followed_by_another(kept, source, record):
    recorder = kept.recorder()
    number = recorder.declare(source())
    recorder.append(number, [record()])
    subprocess.run(["rm", "-r", kept.open], check=True)
    time.sleep(1.1)  # it looks once in a second
    given = record()
    recorder.append(number, [given])
    assert kept.ids() == [given[0]]


def test_nothing_is_logged_while_all_is_well(kept, record, caplog):
    caplog.set_level(logging.DEBUG)
    kept.record(record())
    assert caplog.messages == []


def test_a_log_is_read_while_it_is_written(kept, source, record):
    recorder = kept.recorder()
    number = recorder.declare(source())
    recorder.append(number, [record()])
    with open(kept.logs()[0], "ab") as other:
        other.write(b'[0,"01a2')  # what a reader sees of a write() that is under way
    (log,) = list_logs(kept.open)
    assert sum(len(piece.rows) for piece in Replay(log).predictions()) == 1
