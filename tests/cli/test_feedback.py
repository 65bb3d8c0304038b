import io
import json
import sys
import time

import pytest

from charkha.cli.main import main
from charkha.project import open_project
from charkha.serving.records import open_recorder
from charkha.serving.records.ids import new_ids
from charkha.serving.records.reading import read_records
from charkha.serving.records.source import Source


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    monkeypatch.chdir(tmp_path)
    return open_project(tmp_path)


@pytest.fixture
def ids(project):
    """The ids of three recorded predictions."""
    inputs = ({"name": "area", "type": "double"},)
    source = Source(
        model="prices", version=1, variant="champion", role="live", inputs=inputs, target="price"
    )
    recorder = open_recorder(project)
    made = new_ids(3)
    at = time.time_ns() // 1000
    recorder.append(
        recorder.declare(source), [(id, at, 1500, None, None, (1.5,), 100.5, None) for id in made]
    )
    recorder.close()
    return made


@pytest.fixture
def said(capsys):
    def said(*arguments, code=0):
        assert main(["feedback", *map(str, arguments)]) == code
        return capsys.readouterr()

    return said


def truths(project):
    table = read_records("prices", project=project)
    return dict(zip(table["id"].to_pylist(), table["ground_truth"].to_pylist(), strict=True))


def test_feedback_from_a_file_stands_beside_its_predictions(project, ids, said, tmp_path):
    file = tmp_path / "sold.csv"
    file.write_text(f"id,ground_truth\n{ids[0]},7\n{ids[2]},8.5\n")
    assert said(file).out.splitlines() == ["2 kept"]
    assert truths(project) == {ids[0]: 7.0, ids[1]: None, ids[2]: 8.5}


def test_it_is_sealed_where_no_server_would(project, ids, said, tmp_path):
    file = tmp_path / "sold.jsonl"
    file.write_text(json.dumps({"id": ids[0], "ground_truth": 7}))
    said(file)
    assert not list((project.state / "records-open").glob("*.log"))


def test_the_same_file_twice_changes_nothing(project, ids, said, tmp_path):
    file = tmp_path / "sold.csv"
    file.write_text(f"id,ground_truth\n{ids[0]},7\n")
    said(file)
    once = truths(project)
    said(file)
    assert truths(project) == once


def test_wrong_rows_are_told_the_others_kept_and_the_code_is_1(project, ids, said, tmp_path):
    file = tmp_path / "sold.csv"
    file.write_text(f"id,price\n{ids[0]},7\nx,8\n{new_ids(1)[0]},9\n{ids[1]},\n")
    told = said(file, "--column", "ground_truth=price", code=1)
    assert told.out.splitlines() == [
        "2 kept",
        "1 of predictions that are not recorded",
        "2 wrong, and not kept",
        "  row 2: id: Expected the id of a prediction, a UUIDv7",
        "  row 4: price: Expected a value, there is none",
    ]
    assert truths(project)[ids[0]] == 7.0
    told = said(file, "--column", "ground_truth=price", "--json", code=1)
    assert {**json.loads(told.out), "wrong": 2} == {"kept": 2, "unknown": 1, "wrong": 2}


def test_many_wrong_rows_are_told_in_part(project, said, tmp_path):
    file = tmp_path / "sold.csv"
    file.write_text("id,ground_truth\n" + "x,1\n" * 100)
    told = said(file, code=1).out.splitlines()
    assert (told[1], len(told), told[-1]) == ("100 wrong, and not kept", 23, "  … and 80 more")


def test_standard_input_is_read_where_its_format_is_given(project, ids, said, monkeypatch):
    text = f"id,ground_truth\n{ids[0]},7\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert said("-", "--format", "csv").out == "1 kept\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent.csv"], "there is no file absent.csv"),
        (["notes.txt"], "does not tell its format"),
        (["-"], "--format"),
        (["sold.csv", "--column", "price"], "--column ground_truth=NAME"),
        (["sold.csv", "--column", "truth=price"], "--column ground_truth=NAME"),
        (["sold.csv", "--column", "id=key"], "sold.csv, row 1 has no column 'key'"),
    ],
)
def test_a_command_that_cannot_work_says_what_would(project, said, tmp_path, arguments, told):
    (tmp_path / "sold.csv").write_text("id,ground_truth\nx,1\n")
    assert told in said(*arguments, code=1).err


def test_a_place_that_does_not_answer_costs_nothing(project, ids, said, tmp_path):
    file = tmp_path / "sold.csv"
    file.write_text(f"id,ground_truth\n{ids[0]},7\n")
    (project.state / "records").write_text("no folder")
    told = said(file)
    assert told.out == "1 kept\n"
    assert "will be sealed later" in told.err
    (project.state / "records").unlink()
    assert truths(project)[ids[0]] == 7.0
