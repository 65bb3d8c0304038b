import csv
import json
import time

import pyarrow.parquet as parquet
import pytest

from charkha.cli.main import main
from charkha.project import open_project
from charkha.serving.records import open_feedback, open_recorder
from charkha.serving.records.feedback import Feedback
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source

INPUTS = ({"name": "area", "type": "double"}, {"name": "district", "type": "string"})


def recorded(project, *, role="live", variant="champion", count=3, model="prices"):
    recorder = open_recorder(project)
    source = Source(
        model=model, version=1, variant=variant, role=role, inputs=INPUTS, target="price"
    )
    ids = new_ids(count)
    now = time.time_ns() // 1000
    records = [
        (id, now + at, 1500, None, {"customer": "7"}, (1.5, "Nørth, \"x\""), 100.5 + at, None)
        for at, id in enumerate(ids)
    ]  # fmt: skip
    recorder.append(recorder.declare(source), records)
    recorder.close()
    return ids


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    monkeypatch.chdir(tmp_path)
    return open_project(tmp_path)


@pytest.fixture
def said(capsys):
    def said(*arguments, code=0):
        assert main(["records", *arguments]) == code
        return capsys.readouterr()

    return said


def test_records_are_a_table_newest_last(project, said):
    ids = recorded(project)
    log = open_feedback(project)
    log.append([Feedback(id=ids[1], truth=99)])
    log.close()
    head, *rows = said("prices", "--since", "7d").out.splitlines()
    assert head.split() == ["time", "version", "variant", "prediction", "truth", "took", "id"]
    assert [row.split()[-1] for row in rows] == ids
    assert rows[1].split()[2:] == ["1", "champion", "101.5", "99.0", "2", "ms", ids[1]]
    assert all("Z" in row.split()[1] for row in rows)


def test_a_limit_is_of_the_newest_and_twenty_without_one(project, said):
    ids = recorded(project, count=30)
    assert len(said("prices").out.splitlines()) == 21
    assert said("prices", "--limit", "2").out.split()[-1] == ids[-1]
    assert len(said("prices", "--json").out.splitlines()) == 30


def test_json_is_a_line_for_each_record(project, said):
    ids = recorded(project)
    rows = [json.loads(line) for line in said("prices", "--json").out.splitlines()]
    assert [row["id"] for row in rows] == ids
    assert rows[0]["input.district"] == 'Nørth, "x"'
    assert rows[0]["entities"] == {"customer": "7"}
    assert rows[0]["time"].endswith("Z")
    assert rows[0]["ground_truth"] is None


def test_shadows_are_shown_where_they_are_asked_for(project, said):
    recorded(project)
    recorded(project, role="shadow", variant="next")
    assert len(said("prices", "--json").out.splitlines()) == 3
    assert len(said("prices", "--json", "--shadow").out.splitlines()) == 6
    assert "next (shadow)" in said("prices", "--variant", "next").out


@pytest.mark.parametrize("sealed", [False, True])
def test_one_record_is_shown_with_all_that_is_known(project, said, sealed):
    ids = recorded(project)
    recorded(project, model="other")
    if sealed:
        said("--seal")
    shown = dict(line.split("  ", 1) for line in said("--id", ids[1]).out.splitlines())
    assert shown["model"].strip() == "prices"
    assert shown["input.district"].strip() == 'Nørth, "x"'
    assert json.loads(said("--id", ids[1], "--json").out)["prediction"] == 101.5


def test_a_record_that_is_not_there_is_told(project, said):
    assert "no prediction" in said("--id", new_ids(1)[0], code=3).err
    assert "is no id" in said("--id", "7", code=1).err


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_records_are_written_to_a_file(project, said, tmp_path, form):
    ids = recorded(project)
    file = tmp_path / f"out.{form}"
    told = said("prices", "-o", str(file))
    assert (told.out, "3 records in" in told.err) == ("", True)
    if form == "parquet":
        rows = parquet.read_table(file).to_pylist()
    elif form == "csv":
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert json.loads(rows[0]["entities"]) == {"customer": "7"}
        assert rows[0]["time"].endswith("Z")
    else:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == ids
    assert rows[2]["input.district"] == 'Nørth, "x"'


def test_no_records_is_no_error_and_says_what_there_is(project, said):
    recorded(project)
    said("--seal")
    assert "did you mean 'prices'?" in said("price").err
    told = said("prices", "--since", "2020-01-01", "--until", "2020-01-02", "--json")
    assert (told.out, "recorded are: prices" in told.err) == ("", True)


def test_without_a_model_the_models_are_listed(project, said):
    assert "no record yet" in said().out
    recorded(project)
    recorded(project, model="b")
    said("--seal")
    assert said().out.split() == ["b", "prices"]
    assert json.loads(said("--json").out) == ["b", "prices"]


def test_models_are_listed_before_anything_is_sealed(project, said):
    recorded(project)
    assert said().out.split() == ["prices"]


def test_a_moment_that_is_none_is_refused(project, said):
    assert "'yesterday' is no moment" in said("prices", "--since", "yesterday", code=1).err
