"""diff: which rows, columns and files changed, counted rightly."""

import pandas as pd
import pytest

from charkha.data.adding import add
from charkha.data.differences import compare, diff
from charkha.errors import DataError

OLD = pd.DataFrame({"id": [1, 2, 3], "price": [10.0, 20.0, None], "city": ["Ames", "Bath", None]})


def test_a_table_does_not_differ_from_itself():
    same = compare(OLD, OLD.copy())
    assert (same.rows_added, same.rows_removed, same.rows_changed) == (0, 0, 0)
    assert same.columns_changed == {}


def test_two_missing_values_are_equal_and_a_missing_and_a_present_are_not():
    new = OLD.assign(price=[10.0, None, None])
    assert compare(OLD, new).columns_changed == {"price": "1 value"}


def test_columns_that_came_and_went_are_named():
    changed = compare(OLD, OLD.drop(columns="city").assign(rooms=1))
    assert (changed.columns_added, changed.columns_removed) == (("rooms",), ("city",))
    assert changed.rows_changed == 0


def test_another_type_with_equal_values_is_a_changed_column_and_no_changed_row():
    changed = compare(OLD, OLD.astype({"id": "float64"}))
    assert changed.columns_changed == {"id": "int64 → float64"}
    assert changed.rows_changed == 0


def test_a_number_and_its_text_are_not_equal():
    assert compare(OLD, OLD.astype({"id": str})).rows_changed == 3


def test_a_row_that_changed_in_two_columns_counts_once():
    new = OLD.copy()
    new.loc[1, ["price", "city"]] = [21.0, "Cork"]
    changed = compare(OLD, new)
    assert changed.rows_changed == 1
    assert changed.columns_changed == {"price": "1 value", "city": "1 value"}


def test_without_a_key_tables_of_other_lengths_are_sets_of_rows():
    new = pd.concat([OLD.iloc[[2, 0]], OLD.iloc[[0]], OLD.assign(id=[7, 8, 9])])
    changed = compare(OLD, new)
    assert (changed.rows_added, changed.rows_removed) == (4, 1)
    assert changed.compared_by == "content"


def test_a_repeated_row_counts_as_often_as_both_have_it():
    old = pd.DataFrame({"x": [1, 1, 1, 2]})
    new = pd.DataFrame({"x": [1, 2, 2]})
    changed = compare(old, new)
    assert (changed.rows_added, changed.rows_removed) == (1, 2)


def test_with_a_key_a_row_is_found_again_wherever_it_stands():
    new = pd.DataFrame(
        {"id": [4, 3, 1], "price": [40.0, None, 11.0], "city": ["Derby", None, "Ames"]}
    )
    changed = compare(OLD, new, key=("id",))
    assert (changed.rows_added, changed.rows_removed, changed.rows_changed) == (1, 1, 1)
    assert changed.columns_changed == {"price": "1 value"}


def test_a_key_of_two_columns_is_a_key():
    old = pd.DataFrame({"a": [1, 1], "b": [1, 2], "c": [5, 6]})
    new = pd.DataFrame({"a": [1, 1, 2], "b": [2, 1, 1], "c": [6, 7, 8]})
    changed = compare(old, new, key=("a", "b"))
    assert (changed.rows_added, changed.rows_removed, changed.rows_changed) == (1, 0, 1)


def test_a_key_that_repeats_is_refused():
    with pytest.raises(DataError, match="id is no key: 1 rows of the version after"):
        compare(OLD, OLD.assign(id=[1, 1, 3]), key=("id",))


def test_a_key_that_is_no_column_is_refused():
    with pytest.raises(DataError, match="no column 'nr'"):
        compare(OLD, OLD, key=("nr",))


@pytest.mark.parametrize("kind", ["Int64", "string", "category", "datetime64[ns]", "boolean"])
def test_every_kind_of_column_can_be_compared(kind):
    old = pd.DataFrame({"x": pd.Series([1, 0, None]).astype("Int64").astype(kind)})
    new = pd.DataFrame({"x": pd.Series([1, None, None]).astype("Int64").astype(kind)})
    assert compare(old, new).rows_changed == 1
    fewer = compare(old, new.head(2))
    assert (fewer.rows_added, fewer.rows_removed) == (0, 1)
    assert fewer.columns_changed == {}


def test_values_that_cannot_be_hashed_can_be_compared():
    old = pd.DataFrame({"tags": [["a"], ["b", "c"]]})
    new = pd.DataFrame({"tags": [["a"], ["b"], ["d"]]})
    assert compare(old, new).rows_added == 2


class TestVersions:
    @pytest.fixture
    def houses(self, project, commit):
        path = project.root / "data" / "houses.csv"
        path.parent.mkdir()
        for content, subject in (
            ("id,p\n1,5\n2,6\n", "first"),
            ("id,p\n1,5\n2,7\n3,8\n", "second"),
        ):
            path.write_text(content)
            add(project, str(path))
            commit(subject)
        return path

    def test_without_versions_it_is_what_changed_since_the_last_commit(self, project, houses):
        assert diff(project, "houses").is_empty
        houses.write_text("id,p\n1,5\n2,7\n3,9\n")
        assert diff(project, "houses").table.rows_changed == 1

    def test_two_versions_are_compared_without_touching_the_working_copy(self, project, houses):
        houses.write_text("mine, not added")
        table = diff(project, "houses", "HEAD~1", "HEAD", key=("id",)).table
        assert (table.rows_added, table.rows_changed) == (1, 1)
        assert houses.read_text() == "mine, not added"

    def test_a_dataset_that_is_not_here_says_so(self, project, houses):
        houses.unlink()
        with pytest.raises(DataError, match="charkha data pull houses"):
            diff(project, "houses")

    def test_of_a_folder_the_files_are_named(self, project, commit):
        folder = project.root / "data" / "texts"
        folder.mkdir(parents=True)
        for name in ("kept", "changed", "gone"):
            (folder / name).write_text(name)
        add(project, str(folder))
        commit("texts")
        (folder / "gone").unlink()
        (folder / "changed").write_text("!")
        (folder / "new").write_text("new")
        files = diff(project, "texts").files
        assert (files.added, files.removed, files.changed) == (("new",), ("gone",), ("changed",))

    def test_before_any_commit_there_is_nothing_to_compare_with(self, project):
        (project.root / "a.csv").write_text("x\n1\n")
        add(project, "a.csv")
        with pytest.raises(DataError, match="never committed"):
            diff(project, "a")
