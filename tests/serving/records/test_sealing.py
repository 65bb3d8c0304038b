import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from charkha.errors import Unavailable, UserError
from charkha.serving.records import address_of
from charkha.serving.records.layout import model_folder, model_of
from charkha.serving.records.log import NEW
from charkha.serving.records.sealer import Sealer, waiting


def us(year, month, day, hour=0, minute=0, second=0, micro=0):
    moment = datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)


def table_of(kept, name):
    return parquet.ParquetFile(kept.sealed / name).read()


def test_a_closed_log_becomes_a_file_and_is_gone(kept, record):
    given = [record() for _ in range(3)]
    kept.record(*given)
    done = kept.seal()
    assert (done.logs, done.rows, done.files, done.damaged) == (1, 3, 1, 0)
    assert kept.logs() == []
    assert kept.ids() == sorted(r[0] for r in given)


def test_columns_are_flat_and_typed(kept, record, source):
    given = record(key="k", entities={"customer": "7"}, shares=[0.25, 0.75], value="yes")
    kept.record(given, source=source(classes=("no", "yes")))
    kept.seal()
    (name,) = kept.files()
    schema = table_of(kept, name).schema
    assert dict(zip(schema.names, map(str, schema.types), strict=True)) == {
        "id": "string",
        "time": "timestamp[us, tz=UTC]",
        "version": "int64",
        "variant": "string",
        "role": "string",
        "latency_s": "double",
        "key": "string",
        "entities": "map<string, string ('entities')>",
        "input.area": "double",
        "input.rooms": "int64",
        "input.district": "string",
        "input.garden": "bool",
        "input.built": "timestamp[us]",
        "prediction": "string",
        "probability.no": "double",
        "probability.yes": "double",
    }
    (row,) = table_of(kept, name).to_pylist()
    assert row["id"] == given[0]
    assert row["input.built"] == datetime(2008, 6, 1)
    assert row["latency_s"] == 0.0015
    assert row["entities"] == [("customer", "7")]


def test_files_are_compressed_with_zstd(kept, record):
    kept.record(record())
    kept.seal()
    (name,) = kept.files()
    group = parquet.ParquetFile(kept.sealed / name).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns"])
def test_days_are_those_of_utc_wherever_the_server_is(kept, record, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        kept.record(
            record(at_us=us(2026, 3, 28, 23, 59, 59, 999_999)),
            record(at_us=us(2026, 3, 29, 0)),
            record(at_us=us(2026, 3, 29, 1, 30)),  # the hour that summer time takes in Berlin
            record(at_us=us(2026, 10, 25, 0, 30)),  # the hour that it gives back twice
            record(at_us=us(2026, 10, 25, 1, 30)),
        )
        kept.seal()
    finally:
        monkeypatch.undo()
        time.tzset()
    days = {name.split("/")[1]: table_of(kept, name).num_rows for name in kept.files()}
    assert days == {"day=2026-03-28": 1, "day=2026-03-29": 2, "day=2026-10-25": 2}


def test_each_source_has_a_file_of_its_own(kept, record, source):
    recorder = kept.recorder()
    numbers = [
        recorder.declare(source(model=model, version=version, variant=variant, role=role))
        for model, version, variant, role in (
            ("prices", 1, "champion", "live"),
            ("prices", 2, "challenger", "live"),
            ("prices", 3, "next", "shadow"),
            ("sold", 1, "champion", "live"),
        )
    ]
    for number in numbers * 2:
        recorder.append(number, [record(), record()])
    recorder.close()
    assert kept.seal().files == 4
    assert [len(kept.ids(model=m)) for m in ("prices", "sold", "other")] == [12, 4, 0]


def test_a_log_of_a_living_process_is_left_alone(kept, record, source):
    recorder = kept.recorder()
    recorder.append(recorder.declare(source()), [record()])
    assert kept.seal().logs == 0
    assert len(kept.logs()) == 1
    assert kept.files() == []
    assert waiting(kept.open) == []
    recorder.close()
    assert len(waiting(kept.open)) == 1


def test_a_log_of_a_process_that_died_is_sealed_by_anybody(kept, script):
    script(
        """
import os, sys
from pathlib import Path
from conftest import Kept, make_record, make_source
recorder = Kept(Path(sys.argv[1])).recorder()
recorder.append(recorder.declare(make_source()), [make_record(), make_record()])
sys.stdout.flush()
os._exit(0)
""",
        kept.project.root,
    )
    assert len(kept.logs()) == 1
    assert kept.seal().rows == 2


def test_nothing_to_seal_is_nothing_done(kept):
    assert kept.seal().logs == 0
    kept.open.mkdir(parents=True)
    assert kept.seal().logs == 0


def test_a_log_without_records_is_removed(kept, record):
    kept.record(record())
    (log,) = kept.logs()
    log.write_bytes(log.read_bytes().partition(b"\n")[0] + b"\n")
    assert (kept.seal().files, kept.logs(), kept.files()) == (0, [], [])


def test_a_file_that_ended_before_its_head_is_removed(kept, record):
    kept.record(record())
    (log,) = kept.logs()
    log.write_bytes(b'{"charkha":"pre')
    assert (kept.seal().rows, kept.logs()) == (0, [])


def test_a_torn_last_line_is_dropped_and_the_rest_is_kept(kept, record):
    given = [record() for _ in range(3)]
    kept.record(*given)
    (log,) = kept.logs()
    log.write_bytes(log.read_bytes()[:-5])
    done = kept.seal()
    assert (done.rows, done.damaged) == (2, 0)
    assert kept.ids() == sorted(r[0] for r in given[:2])


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 40,
        b"[0,1,2]",
        b"[7,",
        b"\xff\xfe",
        b"{}",
        b"",
        b'[9,"x",1,1,null,null,[],1,null]',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_set_aside_told_and_the_rest_is_kept(kept, record, caplog, damage):
    given = [record() for _ in range(5)]
    kept.record(*given)
    (log,) = kept.logs()
    lines = log.read_bytes().split(b"\n")
    lines[4] = damage
    log.write_bytes(b"\n".join(lines))
    assert len(kept.ids()) == 4  # before it is sealed as well
    done = kept.seal()
    assert (done.rows, done.damaged) == (4, 1)
    assert kept.ids() == sorted(r[0] for at, r in enumerate(given) if at != 2)
    (aside,) = (kept.open / "damaged").iterdir()
    assert aside.read_bytes() == damage + b"\n"
    assert "1 damaged lines" in caplog.text


def test_records_whose_source_is_damaged_are_set_aside(kept, record):
    kept.record(record(), record())
    (log,) = kept.logs()
    head, source, *records = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([head, source[:-9] + b"\x00" * 9, *records]))
    done = kept.seal()
    assert (done.rows, done.damaged) == (0, 3)
    (aside,) = (kept.open / "damaged").iterdir()
    assert aside.read_bytes().count(b"\n") == 3


def test_a_log_that_is_none_is_set_aside_and_others_are_sealed(kept, record, caplog):
    kept.record(record())
    kept.record(record())
    first, _ = kept.logs()
    first.write_bytes(b"\x00" * 100 + b"\n")
    assert len(kept.ids()) == 1
    done = kept.seal()
    assert (done.rows, len(done.problems)) == (1, 1)
    assert (kept.open / "damaged" / first.name).exists()
    assert "does not begin as a log does" in caplog.text


def test_a_log_of_a_newer_format_stays_where_it_is(kept, record):
    kept.record(record())
    (log,) = kept.logs()
    log.write_bytes(log.read_bytes().replace(b'"format":1', b'"format":2'))
    (problem,) = kept.seal().problems
    assert isinstance(problem, UserError)
    assert "newer" in problem.fix
    assert kept.logs() == [log]


def test_an_input_that_breaks_the_signature_is_text_and_not_lost(kept, record):
    kept.record(record(row=("much", 2**70, 7, "perhaps", "someday")))
    kept.seal()
    (row,) = table_of(kept, kept.files()[0]).to_pylist()
    assert [row[f"input.{n}"] for n in ("area", "rooms", "district", "garden", "built")] == [
        "much", str(2**70), "7", "perhaps", "someday",
    ]  # fmt: skip


def test_dates_with_a_zone_are_in_utc(kept, record):
    for built in ("2008-06-01T12:00:00+02:00", "2008-06-01T10:00:00Z"):
        kept.record(record(row=(1.0, 3, "N", True, built)))
    kept.seal()
    for name in kept.files():
        column = table_of(kept, name)["input.built"]
        assert column.type == pa.timestamp("us", "UTC")
        assert column.to_pylist() == [datetime(2008, 6, 1, 10, tzinfo=UTC)]


@pytest.mark.parametrize(
    "model",
    [
        "..",
        "../../etc/passwd",
        "a/b",
        "/",
        "with space",
        "übung-模型",
        "100%",
        "x" * 400,
        "模" * 200,
        "a\x00b",
        "day=2026-01-01",
        "CON",
        "~",
    ],
)
def test_a_name_of_a_model_is_one_folder_wherever_it_leads(kept, record, source, model):
    kept.record(record(), source=source(model=model))
    kept.record(record(), source=source(model="other"))
    kept.seal()
    assert all(len(name.split("/")) == 3 for name in kept.files())
    assert len(kept.ids(model=model)) == len(kept.ids(model="other")) == 1
    assert model_of(model_folder(model)) == (model if len(model) < 50 else None)


def test_models_that_a_file_system_mixes_up_are_kept_apart(kept, record, source):
    kept.record(record(), source=source(model="prices"))
    kept.seal()
    shutil.copytree(kept.sealed / "model=prices", kept.sealed / "model=Prices")  # as if one folder
    assert kept.ids(model="Prices") == []
    assert len(kept.ids(model="prices")) == 1


def test_long_names_that_begin_alike_are_two_folders():
    assert model_folder("x" * 300) != model_folder("x" * 301)
    assert len(model_folder("模" * 300)) < 255


def test_two_sealers_at_once_are_one(kept, record):
    given = [record() for _ in range(200)]
    for at in range(20):
        kept.record(*given[at * 10 : at * 10 + 10])
    command = [
        sys.executable, "-m", "charkha.serving.records.sealing", str(kept.open),
        f'{{"url": "{kept.sealed}"}}',
    ]  # fmt: skip
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert kept.ids() == sorted(r[0] for r in given)


def test_a_full_disk_leaves_the_log_for_later(kept, script):
    told = script(
        """
import os, resource, sys
from pathlib import Path
from conftest import Kept, make_record, make_source
from charkha.errors import Unavailable
kept = Kept(Path(sys.argv[1]))
kept.record(*(make_record() for _ in range(5000)))
ids = kept.ids()
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
for most in (0, 10, 5000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        kept.seal()
    except Unavailable as e:
        print("unavailable")
    assert kept.ids() == ids
    assert len(kept.logs()) == 1
    assert not [p for p in kept.sealed.rglob("*") if p.is_file()]
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
print(kept.seal().rows, kept.ids() == ids)
""",
        kept.project.root,
    )
    assert told.stdout.split() == ["unavailable"] * 3 + ["5000", "True"]


def test_a_full_disk_at_the_place_is_unavailable(kept, record, small_disk):
    (small_disk / "filler").write_bytes(b"x" * 1_000_000)
    kept.record(*(record(row=(1.5, 3, os.urandom(60).hex(), True, None)) for _ in range(2000)))
    kept.sealed.parent.mkdir(exist_ok=True)
    kept.sealed.symlink_to(small_disk)
    with pytest.raises(Unavailable, match="no space left"):
        kept.seal()
    assert len(kept.ids()) == 2000


def test_what_a_killed_sealer_left_half_written_is_written_over(kept, record):
    kept.record(record())
    (log,) = kept.logs()
    day = datetime.now(UTC).date().isoformat()
    partial = (
        kept.sealed / f"model=prices/day={day}/{log.stem.partition('-')[2]}-000.parquet.partial"
    )
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 100_000)
    assert len(kept.ids()) == 1
    kept.seal()
    assert len(kept.ids()) == 1
    assert not partial.exists()


def test_a_name_that_a_killed_writer_left_is_removed_after_an_hour(kept, record):
    kept.record(record())
    old, young = (kept.open / f"predictions-{name}.log{NEW}" for name in "ab")
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    kept.seal()
    assert (old.exists(), young.exists()) == (False, True)


class TestSealer:
    def test_it_starts_a_process_where_a_log_waits_and_not_otherwise(self, kept, record, source):
        sealer = Sealer(kept.open, address_of(kept.project), every_s=0.0)
        sealer.tick()
        recorder = kept.recorder()
        recorder.append(recorder.declare(source()), [record()])
        sealer.tick()
        assert (sealer.runs, sealer.behind) == (0, 0)
        recorder.close()
        sealer.tick()
        sealer.tick()
        assert (sealer.runs, sealer.behind) == (1, 1)
        assert sealer.finish(60)
        assert (len(kept.ids()), kept.logs(), sealer.failures) == (1, [], 0)

    def test_one_that_fails_is_counted_told_and_tried_again_later(self, kept, record, caplog):
        kept.record(record())
        kept.sealed.write_text("no folder")
        sealer = Sealer(kept.open, address_of(kept.project), every_s=0.05)
        assert not sealer.finish(60)
        runs = sealer.runs
        sealer.tick()
        assert (sealer.failures, sealer.runs) == (runs, runs)  # it waits
        assert "sealing ended with" in caplog.text
        kept.sealed.unlink()
        time.sleep(0.5)
        sealer.tick()
        assert sealer.finish(60)
        assert len(kept.ids()) == 1

    def test_secrets_are_not_in_its_command_line(self, tmp_path, monkeypatch):
        from charkha.serving.records.places import Address

        monkeypatch.setenv("A_KEY", "top-secret")
        address = Address(url="s3://bucket", access_key="env:A_KEY", secret_key="env:A_KEY")  # noqa: S106
        assert "top-secret" not in "".join(Sealer(tmp_path, address)._told)
