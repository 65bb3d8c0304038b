"""dataset(): what a pipeline sees of a dataset, and what it costs to look."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from charkha import dataset
from charkha.data.adding import add
from charkha.data.datasets import Dataset
from charkha.errors import DataError, ProjectError
from charkha.pipeline.values import Dir, File, Source

ROWS = pd.DataFrame({"id": [1, 2, 3], "price": [10.5, 20.0, None], "when": ["2026-01-01"] * 3})


@pytest.fixture
def ames(project):
    path = project.root / "data" / "ames.parquet"
    path.parent.mkdir()
    ROWS.to_parquet(path)
    add(project, str(path))
    return dataset("ames").bind(project)


def test_it_is_a_source():
    assert isinstance(dataset("ames"), Source)


def test_unbound_it_belongs_to_the_project_around_the_current_folder(ames):
    assert dataset("ames").fingerprint({}) == ames.fingerprint({})


def test_outside_of_any_project_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="charkha init"):
        dataset("ames").fingerprint({})


def test_it_can_be_described_and_revived_elsewhere(ames, project):
    described = ames.describe()
    assert described["source"] == "charkha.data.datasets:Dataset"
    revived = Dataset.revive(described, project)
    assert revived == ames
    assert revived.fingerprint({}) == ames.fingerprint({})


def test_its_fingerprint_is_the_pointers_hash(ames, project):
    pointer = (project.root / "data" / "ames.parquet.dvc").read_text()
    assert f"- {ames.fingerprint({}).replace(':', ': ')}\n" in pointer


def test_its_fingerprint_follows_the_file_not_the_pointer(ames):
    before = ames.fingerprint({})
    ROWS.head(2).to_parquet(ames.path)
    assert ames.fingerprint({}) != before


def test_its_fingerprint_needs_no_bytes(ames):
    before = ames.fingerprint({})
    ames.path.unlink()
    assert ames.fingerprint({}) == before


def test_a_folder_has_a_fingerprint_with_and_without_its_bytes(project):
    folder = project.root / "data" / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    add(project, str(folder))
    texts = dataset("texts").bind(project)
    before = texts.fingerprint({})
    assert before.endswith(".dir")
    (folder / "a.txt").unlink()
    folder.rmdir()
    assert texts.fingerprint({}) == before


def test_looking_imports_no_framework(ames, project):
    code = (
        "import sys; from charkha.data.datasets import dataset; dataset('ames').fingerprint({});"
        "print([m for m in ('dvc', 'pandas', 'numpy', 'yaml', 'pyarrow', 'pandera') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (None, pd.DataFrame),
        (object, pd.DataFrame),
        (pd.DataFrame, pd.DataFrame),
        (pa.Table, pa.Table),
        (Path, Path),
        (File, File),
    ],
)
def test_it_loads_as_what_is_wanted(ames, wanted, kind):
    assert isinstance(ames.load(wanted), kind)


def test_it_does_not_load_as_what_it_is_not(ames):
    with pytest.raises(DataError, match="cannot be loaded as dict"):
        ames.load(dict)


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.parquet"]
)
def test_every_kind_of_table_comes_back_equal(project, tmp_path, name):
    path = tmp_path / name
    if ".parquet" in name:
        ROWS.to_parquet(path)
    elif ".jsonl" in name:
        ROWS.to_json(path, orient="records", lines=True)
    else:
        ROWS.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    version = add(project, str(path))
    assert (version.pointer.rows, version.pointer.columns) == (3, 3)
    pd.testing.assert_frame_equal(dataset("a").load(), ROWS)
    assert dataset("a").load(pa.Table).num_rows == 3


def test_a_folder_of_tables_loads_in_the_order_of_its_files(project):
    folder = project.root / "data" / "sales"
    folder.mkdir(parents=True)
    for year in (2010, 2008, 2009):
        pd.DataFrame({"year": [year]}).to_csv(folder / f"{year}.csv", index=False)
    add(project, str(folder))
    assert list(dataset("sales").load(pd.DataFrame)["year"]) == [2008, 2009, 2010]
    assert dataset("sales").load() == folder
    assert isinstance(dataset("sales").load(Dir), Dir)


def test_a_folder_of_unlike_tables_is_refused(project):
    folder = project.root / "data" / "sales"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "b.csv").write_text("y\n1\n")
    add(project, str(folder))
    with pytest.raises(DataError, match=r"b\.csv has other columns"):
        dataset("sales").load(pd.DataFrame)


def test_a_damaged_table_is_named(ames):
    ames.path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"ames\.parquet cannot be read as parquet"):
        ames.load()


def test_not_pulled_says_so_and_what_to_type(ames):
    ames.path.unlink()
    with pytest.raises(DataError, match="charkha data pull ames"):
        ames.load()


def test_an_unknown_name_is_answered_with_the_nearest(ames, project):
    with pytest.raises(DataError, match="did you mean 'ames'"):
        dataset("amse").bind(project).fingerprint({})


class TestChecked:
    @pytest.fixture
    def checks(self, ames, project):
        return project.root / "data" / "ames.checks.toml"

    @pytest.fixture
    def checked(self, ames, project):
        return dataset("ames", checked=True).bind(project)

    def test_the_rules_are_part_of_the_fingerprint(self, checked, checks):
        checks.write_text("min_rows = 1\n")
        before = checked.fingerprint({})
        checks.write_text("min_rows = 2\n")
        assert checked.fingerprint({}) != before

    def test_without_rules_it_is_an_error(self, checked, checks):
        with pytest.raises(DataError, match=r"ames\.checks\.toml does not exist"):
            checked.fingerprint({})

    def test_a_broken_rule_stops_the_loading(self, checked, checks):
        checks.write_text("[columns.id]\nmax = 2\n")
        with pytest.raises(DataError, match="id is at most 2, but row 2 has 3"):
            checked.load()

    def test_where_every_rule_holds_it_loads(self, checked, checks):
        checks.write_text("min_rows = 3\n")
        assert len(checked.load()) == 3

    def test_unchecked_the_rules_do_not_matter(self, ames, checks):
        checks.write_text("min_rows = 1000\n")
        assert len(ames.load()) == 3

    def test_data_that_has_become_too_old_is_another_input(self, checked, checks, monkeypatch):
        checks.write_text('freshness = { column = "when", max_age_days = 100_000 }\n')
        fresh = checked.fingerprint({})
        checks.write_text('freshness = { column = "when", max_age_days = 0.5 }\n')
        old = checked.fingerprint({})
        assert old.endswith("too old")
        assert not fresh.endswith("too old")
        with pytest.raises(DataError, match="the newest when is at most 0.5 days old"):
            checked.load()

    def test_a_stale_dataset_is_read_once_to_know_it(self, checked, checks, project):
        checks.write_text('freshness = { column = "when", max_age_days = 0.5 }\n')
        before = checked.fingerprint({})
        started = time.perf_counter()
        assert checked.fingerprint({}) == before
        assert (project.state / "newest").exists()
        assert time.perf_counter() - started < 1  # without reading: milliseconds
