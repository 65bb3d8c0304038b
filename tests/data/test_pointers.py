"""Pointers: what DVC writes is read without YAML, everything else with it, and both say the same."""

import sys

import pytest
import yaml

from charkha.data import pointers
from charkha.data.pointers import check_name, find_pointer, find_pointers, name_of, parse_pointer
from charkha.errors import DataError

MD5 = "a304afb96060aad90176268345e10355"
PLAIN = f"outs:\n- md5: {MD5}\n  size: 12\n  hash: md5\n  path: ames.csv\n"
FOLDER = f"outs:\n- md5: {MD5}.dir\n  size: 12\n  nfiles: 3\n  hash: md5\n  path: images\n"
NOTE = (
    f"meta:\n  charkha:\n    md5: {MD5}\n    rows: 5\n    columns: 2\n"
    "    source: https://example.org/ames.csv\n    added: '2026-11-23T22:45:01Z'\n"
)


@pytest.fixture
def no_yaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)


@pytest.mark.usefixtures("no_yaml")
def test_what_dvc_writes_is_read_without_a_yaml_parser(tmp_path):
    file = tmp_path / "ames.csv.dvc"
    pointer = parse_pointer(PLAIN, file)
    assert (pointer.path, pointer.md5, pointer.size_bytes) == (tmp_path / "ames.csv", MD5, 12)
    assert parse_pointer(FOLDER, file).files == 3
    assert parse_pointer(PLAIN + NOTE, file).rows == 5


@pytest.mark.parametrize("text", [PLAIN, FOLDER, PLAIN + NOTE])
def test_the_pattern_and_the_parser_read_the_same(tmp_path, text):
    file = tmp_path / "ames.csv.dvc"
    assert parse_pointer(text, file) == pointers._parse_yaml(text, file)


@pytest.mark.parametrize("path", ["true", "'1.5'", '"a b.csv"', "ä.csv", "a#b.csv", "null"])
def test_a_path_is_what_yaml_says_it_is(tmp_path, path):
    text = PLAIN.replace("ames.csv", path)
    said = str(yaml.safe_load(text)["outs"][0]["path"])
    assert parse_pointer(text, tmp_path / "x.dvc").path == tmp_path / said


@pytest.mark.parametrize("extra", ["  remote: prod\n", "desc: sales\n", "# mine\n"])
def test_what_a_person_added_is_read_too(tmp_path, extra):
    assert parse_pointer(PLAIN + extra, tmp_path / "ames.csv.dvc").md5 == MD5


def test_a_pointer_of_an_old_dvc_says_its_other_hash(tmp_path):
    old = PLAIN.replace("  hash: md5\n", "")
    assert parse_pointer(old, tmp_path / "ames.csv.dvc").algorithm == "md5-dos2unix"


def test_a_note_of_other_bytes_is_not_believed(tmp_path):
    stale = PLAIN + NOTE.replace(MD5, "0" * 32)
    assert parse_pointer(stale, tmp_path / "ames.csv.dvc").rows is None


@pytest.mark.parametrize("text", ["", "a: [", "outs: []", "outs:\n- path: a\n", "\tx", "- 1"])
def test_what_is_no_pointer_is_refused_by_name(tmp_path, text):
    with pytest.raises(DataError, match=r"ames\.csv\.dvc"):
        parse_pointer(text, tmp_path / "ames.csv.dvc")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "not-a-dataset.csv.dvc").write_text("part of the dataset `images`")
    (tmp_path / "ames.csv.dvc").write_text(PLAIN)
    (tmp_path / "images.dvc").write_text(FOLDER)
    (tmp_path / "raw" / "ames.csv.dvc").write_text(PLAIN)
    return tmp_path


def test_a_name_is_the_path_up_to_the_first_dot(folder):
    names = [name_of(pointer.file, folder) for pointer in find_pointers(folder)]
    assert names == ["ames", "images", "raw/ames"]
    assert find_pointer(folder, "raw/ames").path == folder / "raw" / "ames.csv"


def test_a_misspelt_name_is_answered_with_the_nearest(folder):
    with pytest.raises(DataError, match="did you mean 'ames'"):
        find_pointer(folder, "amse")


def test_a_file_never_added_is_answered_with_the_command(folder):
    (folder / "prices.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"charkha data add .*prices\.csv"):
        find_pointer(folder, "prices")


def test_an_empty_data_folder_says_how_to_begin(tmp_path):
    with pytest.raises(DataError, match="charkha data add"):
        find_pointer(tmp_path / "data", "ames")


def test_two_files_of_one_name_are_refused(folder):
    (folder / "ames.parquet.dvc").write_text(PLAIN)
    with pytest.raises(DataError, match="2 datasets are called 'ames'"):
        find_pointer(folder, "ames")


@pytest.mark.parametrize("name", ["../x", "/x", "a.b", "", "a//b", "a b", "-x", "a/../b", "ä"])
def test_a_name_cannot_lead_out_of_the_data_folder_or_mislead(name):
    with pytest.raises(DataError, match="cannot be the name"):
        check_name(name)
