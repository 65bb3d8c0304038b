import os
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

import charkha
from charkha.errors import DataError, UserError
from charkha.project import open_project
from charkha.serving.records import address_of, open_feedback, open_folder
from charkha.serving.records.feedback import Feedback
from charkha.serving.records.ids import new_ids
from charkha.serving.records.moments import moment_of
from charkha.serving.records.places import open_place
from charkha.serving.records.reading import find_record, known_ids, read_records, recorded_models
from charkha.serving.records.sealing import seal_project
from charkha.serving.records.store import Store
from charkha.serving.records.tables import aligned, aligned_one

NOW = datetime.now(UTC)
HEAD = ["id", "time", "version", "variant", "role", "latency_s", "key", "entities"]
INPUTS = ["input.area", "input.rooms", "input.district", "input.garden", "input.built"]
TAIL = ["prediction", "ground_truth", "ground_truth_time"]


def ago(**span):
    return int((NOW - timedelta(**span)).timestamp() * 1_000_000)


def id_at(unix_us):
    ms = unix_us // 1000
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}{new_ids(1)[0][13:]}"


@pytest.fixture(params=["unsealed", "sealed", "both"])
def settle(request, kept):
    """Seal all, nothing, or what was there at the first call."""
    calls = []

    def settle():
        calls.append(1)
        if request.param == "sealed" or (request.param == "both" and len(calls) == 1):
            kept.seal()

    return settle


def truth(kept, *feedback):
    log = open_feedback(kept.project)
    log.append(feedback)
    log.close()


def read(kept, model="prices", **wanted):
    return read_records(model, project=kept.project, **wanted)


def test_records_come_oldest_first_with_all_columns(kept, record, settle):
    given = [record(at_us=ago(days=day)) for day in (3, 1, 2)]
    kept.record(*given[:2])
    settle()
    kept.record(given[2])
    settle()
    table = read(kept)
    assert table.column_names == [*HEAD, *INPUTS, *TAIL]
    assert table["id"].to_pylist() == [given[at][0] for at in (0, 2, 1)]
    assert table["ground_truth"].to_pylist() == [None] * 3


def test_a_model_that_was_never_asked_has_no_rows(kept):
    table = read(kept)
    assert (table.num_rows, table.column_names) == (0, [*HEAD, *TAIL])
    assert read(kept, columns=["id", "input.area"]).column_names == ["id", "input.area"]


def test_a_span_has_its_first_moment_and_not_its_last(kept, record, settle):
    times = [ago(days=5), ago(days=3), ago(hours=5), ago(hours=1)]
    given = [record(at_us=at) for at in times]
    kept.record(*given)
    settle()
    moments = [datetime.fromtimestamp(at / 1e6, UTC) for at in times]
    for since in range(4):
        for until in range(since, 4):
            found = read(kept, since=moments[since], until=moments[until], columns=["id"])
            assert found["id"].to_pylist() == [r[0] for r in given[since:until]]
    assert read(kept, since="4d").num_rows == 3
    assert read(kept, since="3h", until="1min").num_rows == 1
    assert read(kept, until=moments[1].isoformat()).num_rows == 1


def test_versions_variants_and_shadows_are_told_apart(kept, record, source, settle):
    for version, variant, role in ((1, "a", "live"), (2, "b", "live"), (3, "c", "shadow")):
        kept.record(record(), source=source(version=version, variant=variant, role=role))
    settle()
    assert read(kept)["version"].to_pylist() == [1, 2]
    assert read(kept, shadow=True)["role"].to_pylist() == ["live", "live", "shadow"]
    assert read(kept, variant="c")["version"].to_pylist() == [3]
    assert read(kept, version=2)["variant"].to_pylist() == ["b"]
    assert read(kept, version=3).num_rows == 0
    assert read(kept, version=3, shadow=True).num_rows == 1


def test_versions_with_other_inputs_are_one_table(kept, record, source, settle):
    old = ({"name": "area", "type": "long"}, {"name": "district", "type": "string"})
    new = ({"name": "area", "type": "double"}, {"name": "Area", "type": "string"})
    kept.record(record(at_us=ago(days=2), row=(40, "North")), source=source(version=1, inputs=old))
    settle()
    kept.record(record(row=(41.5, "big")), source=source(version=2, inputs=new))
    settle()
    table = read(kept)
    assert table["input.area"].to_pylist() == [40.0, 41.5]
    assert table["input.district"].to_pylist() == ["North", None]
    assert table["input.Area"].to_pylist() == [None, "big"]
    assert table.column_names[-3:] == TAIL


def test_a_limit_is_of_the_newest(kept, record, settle):
    given = [record(at_us=ago(days=9 - day, minutes=at)) for day in range(9) for at in (2, 1)]
    kept.record(*given[:9])
    settle()
    kept.record(*given[9:])
    settle()
    for limit in (1, 3, 17, 18, 100):
        found = read(kept, limit=limit)["id"].to_pylist()
        assert found == [r[0] for r in given][-limit:]


def test_columns_come_as_asked(kept, record, settle):
    given = record()
    kept.record(given)
    truth(kept, Feedback(id=given[0], truth=7))
    settle()
    found = read(kept, columns=["prediction", "input.area", "id"])
    assert found.column_names == ["prediction", "input.area", "id"]
    found = read(kept, columns=["ground_truth"])
    assert found.to_pydict() == {"ground_truth": [7.0]}
    with pytest.raises(UserError, match=r"did you mean 'input\.area'"):
        read(kept, columns=["input.arae"])


def test_probabilities_are_columns_by_label(kept, record, source, settle):
    for classes in ((False, True), ("no", "yes"), (0, 1)):
        kept.record(
            record(value=classes[1], shares=[0.25, 0.75]),
            source=source(model=str(classes), classes=classes),
        )
    settle()
    for classes, names in (
        ((False, True), ["probability.false", "probability.true"]),
        (("no", "yes"), ["probability.no", "probability.yes"]),
        ((0, 1), ["probability.0", "probability.1"]),
    ):
        (row,) = read(kept, str(classes)).to_pylist()
        assert row["prediction"] == classes[1]
        assert [row[name] for name in names] == [0.25, 0.75]


def test_a_record_is_found_by_its_id_in_any_model(kept, record, source, settle):
    at_us = ago(days=30)
    midnight = at_us // 86_400_000_000 * 86_400_000_000
    given = [record(id_at(midnight - 1), at_us=midnight, entities={"customer": "7"})]
    given += [record(at_us=ago(days=day)) for day in range(3)]
    for at, one in enumerate(given):
        kept.record(one, source=source(model=f"m{at}", role="shadow" if at else "live"))
    truth(kept, Feedback(id=given[0][0], truth=9.5))
    settle()
    found = find_record(given[0][0], project=kept.project)
    assert (found["model"], found["prediction"], found["ground_truth"]) == ("m0", 181234.5, 9.5)
    assert found["entities"] == {"customer": "7"}
    assert find_record(new_ids(1)[0], project=kept.project) is None
    with pytest.raises(DataError, match="no id"):
        find_record("7", project=kept.project)


def test_finding_one_record_reads_the_files_of_three_days_at_most(kept, record):
    class Counted:
        def __init__(self, place):
            self.place, self.opened = place, []

        def open(self, name):
            self.opened.append(name)
            return self.place.open(name)

        def __getattr__(self, name):
            return getattr(self.place, name)

    from charkha.serving.records.store import Wanted

    given = [record(id_at(ago(days=day)), at_us=ago(days=day)) for day in range(10)]
    kept.record(*given)
    kept.seal()
    place = Counted(kept.place)
    (table,) = Store(kept.open, place).predictions(Wanted(ids=(given[5][0],)))
    assert table.num_rows == 1
    assert len(place.opened) == 3


def test_which_ids_are_known_is_told(kept, record, settle):
    given = [record(id_at(ago(days=day)), at_us=ago(days=day)) for day in (0, 0, 40, 90)]
    kept.record(*given)
    settle()
    asked = [given[0][0], given[2][0], *new_ids(3)]
    assert known_ids(asked, project=kept.project) == {given[0][0], given[2][0]}
    assert known_ids([], project=kept.project) == set()


def test_models_are_told(kept, record, source):
    for model in ("b", "a/ü", "a"):
        kept.record(record(), source=source(model=model))
    kept.seal()
    assert recorded_models(kept.project) == ["a", "a/ü", "b"]


def test_what_is_in_no_log_and_no_file_yet_is_in_the_next_look(kept, record, source):
    recorder = kept.recorder()
    number = recorder.declare(source())
    for count in range(1, 4):
        recorder.append(number, [record()])
        assert read(kept).num_rows == count


def test_a_log_that_is_sealed_between_two_looks_is_read_once(kept, record, monkeypatch):
    given = [record() for _ in range(4)]
    for one in given:
        kept.record(one)
    really = os.listdir

    def listed_then_sealed(folder):
        names = really(folder)
        monkeypatch.undo()
        kept.seal()
        return names

    monkeypatch.setattr(os, "listdir", listed_then_sealed)
    assert kept.ids() == sorted(r[0] for r in given)
    assert kept.logs() == []


def test_files_of_a_log_that_is_still_there_do_not_count(kept, record):
    kept.record(record(), record())
    (log,) = kept.logs()
    content = log.read_bytes()
    kept.seal()
    log.write_bytes(content)  # as if the sealer had been killed before it removed the log
    assert read(kept).num_rows == 2


def test_other_files_in_the_folders_are_nobodys_business(kept, record):
    kept.record(record())
    kept.seal()
    (kept.sealed / "model=prices" / "notes").mkdir()
    (kept.sealed / "model=prices" / "notes" / "a.parquet").write_bytes(b"x")
    (kept.sealed / kept.files()[0]).with_name("README.txt").write_text("hello")
    (kept.open / "notes.log").write_text("hello")
    assert read(kept).num_rows == 1


def test_a_sealed_file_that_is_damaged_is_named(kept, record):
    kept.record(record())
    kept.seal()
    path = kept.sealed / kept.files()[0]
    path.write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(charkha.errors.Damaged, match=path.name):
        read(kept)


class TestTruth:
    def joined(self, kept):
        table = read(kept)
        return table["ground_truth"].to_pylist(), table["ground_truth_time"].to_pylist()

    def test_the_truth_stands_beside_its_prediction(self, kept, record, settle):
        given = [record() for _ in range(3)]
        kept.record(*given)
        settle()
        truth(kept, Feedback(id=given[1][0], truth=250.5, at=NOW))
        settle()
        assert self.joined(kept) == ([None, 250.5, None], [None, NOW, None])

    def test_sent_twice_it_counts_once(self, kept, record, settle):
        given = record()
        kept.record(given)
        one = Feedback(id=given[0], truth=1, at=NOW)
        truth(kept, one, one)
        settle()
        truth(kept, one)
        settle()
        assert self.joined(kept) == ([1.0], [NOW])

    def test_the_later_time_wins_and_of_the_same_time_the_later_word(self, kept, record, settle):
        ids = [record()[0] for _ in range(3)]
        kept.record(*(record(id) for id in ids))
        early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
        truth(
            kept,
            Feedback(id=ids[0], truth=2, at=late),
            Feedback(id=ids[1], truth=1, at=early),
            Feedback(id=ids[2], truth=1),
        )
        settle()
        truth(
            kept,
            Feedback(id=ids[0], truth=1, at=early),
            Feedback(id=ids[1], truth=2, at=early),
            Feedback(id=ids[2], truth=1),
            Feedback(id=ids[2], truth=2),
        )
        settle()
        assert self.joined(kept)[0] == [2.0, 2.0, 2.0]
        assert self.joined(kept)[1][0] == late

    def test_it_may_come_months_late_and_before_its_prediction_is_sealed(
        self, kept, record, settle
    ):
        at_us = ago(days=200)
        given = record(id_at(at_us), at_us=at_us)
        kept.record(given)
        settle()
        truth(kept, Feedback(id=given[0], truth=3))
        settle()
        assert self.joined(kept)[0] == [3.0]
        assert read(kept, since="201d", until="199d")["ground_truth"].to_pylist() == [3.0]
        if kept.files():
            day = datetime.fromtimestamp(at_us / 1e6, UTC).date().isoformat()
            assert any(name.startswith(f"feedback/day={day}/") for name in kept.files()) or (
                kept.logs()
            )

    @pytest.mark.parametrize(
        ("predicted", "said", "read_as"),
        [
            (1.5, 2, 2.0),
            (1.5, "2.5", 2.5),
            (1, 2.0, 2),
            (1, 2.5, 2.5),
            ("1", 1, "1"),
            ("yes", True, "true"),
            (True, 1, True),
            (True, "false", False),
            (1.5, "expensive", "expensive"),
        ],
    )
    def test_it_has_the_type_of_the_prediction_where_that_holds_it(
        self, kept, record, source, predicted, said, read_as
    ):
        given = record(value=predicted)
        kept.record(given, source=source(classes=None))
        truth(kept, Feedback(id=given[0], truth=said))
        for _ in range(2):
            (found,) = self.joined(kept)[0]
            assert (found, type(found)) == (read_as, type(read_as))
            kept.seal()

    def test_truths_of_no_prediction_do_no_harm(self, kept, record):
        given = record()
        kept.record(given)
        truth(kept, Feedback(id=new_ids(1)[0], truth=1), Feedback(id=id_at(ago(days=90)), truth=2))
        kept.seal()
        assert self.joined(kept)[0] == [None]


class TestOnS3:
    @pytest.fixture
    def project(self, s3, tmp_path, monkeypatch):
        monkeypatch.setenv("KEY", s3.access_key)
        (tmp_path / "charkha.toml").write_text(
            f"""
[records]
url = "s3://{s3.make_bucket()}/records"
endpoint_url = "{s3.endpoint_url}"
access_key = "env:KEY"
secret_key = "env:KEY"
"""
        )
        return open_project(tmp_path)

    def test_records_are_sealed_to_a_bucket_and_read_from_it(
        self, kept, project, record, source, s3
    ):
        times = [ago(days=day) for day in (20, 2, 1)]
        given = [record(id_at(at), at_us=at) for at in times]
        kept.record(*given)
        truth(kept, Feedback(id=given[1][0], truth=5))
        for _ in range(2):
            table = read_records("prices", project=project, since="7d")
            assert table["id"].to_pylist() == [r[0] for r in given[1:]]
            assert table["ground_truth"].to_pylist() == [5.0, None]
            seal_project(project)
        assert kept.logs() == []
        assert not open_folder(project).parent.joinpath("records").exists()
        assert len(open_place(address_of(project)).folders("model=prices/")) == 3
        assert find_record(given[1][0], project=project)["ground_truth"] == 5.0

    def test_a_bucket_that_does_not_answer_leaves_logs_that_can_be_read_later(
        self, kept, project, record, s3
    ):
        given = record()
        kept.record(given)
        gone = open_project(project.root)
        bucket = project.records.url.split("/")[2]
        s3.client.delete_bucket(Bucket=bucket)
        with pytest.raises(charkha.errors.BackendError):
            seal_project(gone)
        assert len(kept.logs()) == 1
        s3.client.create_bucket(Bucket=bucket)
        seal_project(gone)
        assert read_records("prices", project=project).num_rows == 1


def test_reading_is_public():
    assert charkha.read_records is read_records


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30min", 1800), ("12h", 43_200), ("7d", 604_800), ("1.5 d", 129_600), ("2w", 1_209_600)],
)  # fmt: skip
def test_a_span_before_now_is_a_moment(text, seconds):
    assert moment_of(text, NOW) == NOW - timedelta(seconds=seconds)


def test_a_moment_without_a_zone_is_in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert moment_of("2026-11-24") == datetime(2026, 11, 24, tzinfo=UTC)
        assert moment_of(datetime(2026, 11, 24, 1)) == datetime(2026, 11, 24, 1, tzinfo=UTC)
        assert moment_of("2026-11-24T01:00+02:00") == datetime(2026, 11, 23, 23, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "d", "-1d", "9999999999d", "0001-01-01T00:00+23:00"]
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(UserError, match="no moment"):
        moment_of(text)


def test_types_are_arrows_own(kept, record):
    kept.record(record())
    kept.seal()
    schema = read(kept).schema
    assert schema.field("time").type == pa.timestamp("us", "UTC")
    assert schema.field("ground_truth").type == pa.float64()
    assert schema.field("ground_truth_time").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize("like", [pa.float64(), pa.int64(), pa.string(), pa.bool_()])
@pytest.mark.parametrize("truth", ["3", "3.0", "3.5", '"3"', '"yes"', "true", "1", '""'])
def test_one_truth_takes_the_form_that_a_column_of_them_has(truth, like):
    (in_a_column,) = aligned([truth], like).to_pylist()
    alone = aligned_one(truth, like)
    assert (type(alone), alone) == (type(in_a_column), in_a_column)
