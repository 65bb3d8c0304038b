"""Checks: each rule holds what it says, names the rows that break it, and is read strictly."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from charkha.data.checks import Failure, Freshness, Rules, check_age, read_rules
from charkha.data.pandera import failures, newest, schema
from charkha.errors import ProjectError

FRAME = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "price": [10.0, 20.5, -1.0, 7e9],
        "air": ["Y", "N", "Y", "?"],
        "area": [1.0, None, 3.0, 4.0],
        "flag": [True, False, True, True],
        "when": ["2026-01-01", "2026-02-01T10:00:00", "2026-03-01T00:00:00+01:00", "soon"],
    }
)


@pytest.fixture
def rules(tmp_path):
    """Read the rules in a text."""

    def rules(text):
        (tmp_path / "ames.checks.toml").write_text(text)
        return read_rules(tmp_path / "ames.checks.toml")

    return rules


def test_a_byte_order_mark_is_no_part_of_the_rules(tmp_path):
    (tmp_path / "ames.checks.toml").write_text("min_rows = 2\n", encoding="utf-8-sig")
    assert read_rules(tmp_path / "ames.checks.toml").min_rows == 2


def broken(text_rules, frame=FRAME):
    return [str(failure) for failure in failures(frame, text_rules)]


HOLD = [
    '[columns.id]\ntype = "integer"\nunique = true\nmin = 1\nmax = 4',
    '[columns.price]\ntype = "number"',
    '[columns.air]\ntype = "string"\npattern = "[YN?]"',
    '[columns.air]\none_of = ["Y", "N", "?"]',
    '[columns.area]\ntype = "integer"\nnullable = true',
    '[columns.flag]\ntype = "boolean"',
    '[columns.gone]\nrequired = false\ntype = "number"',
    'required = ["id", "air"]',
    'unique = [["id"], ["air", "id"]]',
    'unique = ["air", "price"]',
    "min_rows = 4",
]


@pytest.mark.parametrize("text", HOLD)
def test_a_rule_that_holds_says_nothing(rules, text):
    assert broken(rules(text)) == []


BREAK = [
    ("[columns.price]\nmin = 0", ["price is at least 0, but row 2 has -1.0"]),
    ("[columns.price]\nmax = 100", ["price is at most 100, but row 3 has 7000000000.0"]),
    ("[columns.price]\nunique = true\nmin = 50", 1),
    ('[columns.air]\none_of = ["Y", "N"]', ["air is one of 'Y', 'N', but row 3 has '?'"]),
    ('[columns.air]\npattern = "[A-Z]"', ["air matches [A-Z], but row 3 has '?'"]),
    ("[columns.area]\nmax = 9", ["area is never missing, but row 1 has nothing"]),
    ('[columns.price]\ntype = "integer"', ["price is a whole number, but row 1 has 20.5"]),
    ('[columns.air]\ntype = "number"', 1),
    ('[columns.id]\ntype = "string"', 1),
    ('[columns.id]\ntype = "boolean"', 1),
    ('[columns.flag]\ntype = "integer"', 1),
    ('[columns.flag]\ntype = "number"', 1),
    ('[columns.when]\ntype = "datetime"', ["when is a date or a time, but row 3 has 'soon'"]),
    ("[columns.air]\nmin = 0", 1),
    ("[columns.air]\nunique = true", ["air is never twice the same, but row 0 has 'Y', row 2 has 'Y'"]),
    ('unique = ["air"]', ["air is never twice the same, but row 0 has 'Y', row 2 has 'Y'"]),
    ('required = ["Price"]', ["there is a column Price, but there is only price"]),
    ('[columns.rooms]\ntype = "number"', ["there is a column rooms, but there is none"]),
    ('unique = ["id", "nr"]', ["there is a column nr, but there is none"]),
    ("min_rows = 5", ["there are at least 5 rows, but there are 4"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BREAK)
def test_a_broken_rule_names_itself_and_its_rows(rules, text, said):
    found = broken(rules(text))
    assert found == said if isinstance(said, list) else len(found) == said


def test_all_broken_rules_are_listed(rules):
    text = 'min_rows = 9\nrequired = ["x"]\n[columns.price]\nmin = 0\nmax = 1\n[columns.area]\n'
    assert len(broken(rules(text))) == 5


def test_undeclared_columns_can_be_refused(rules):
    text = "extra_columns = false\n" + "".join(f"[columns.{c}]\nnullable = true\n" for c in FRAME)
    assert broken(rules(text)) == []
    assert "there is more" in broken(rules(text), FRAME.assign(more=1))[0]


def test_only_the_first_rows_are_shown_and_the_rest_counted(rules):
    frame = pd.DataFrame({"x": range(1000)})
    (failure,) = failures(frame, rules("[columns.x]\nmax = 9"))
    assert [row for row, _ in failure.rows] == [10, 11, 12, 13, 14]
    assert failure.count == 990
    assert str(failure).endswith("row 14 has 14 and 985 more rows")


def test_row_numbers_count_from_0_whatever_the_index(rules):
    frame = FRAME.set_index(pd.Index([7, 7, 7, 7]))
    assert broken(rules("[columns.price]\nmin = 0"), frame)[0].endswith("row 2 has -1.0")


@pytest.mark.parametrize(
    "values",
    [
        pd.to_datetime(["2026-01-01", "2026-06-01"]),
        pd.to_datetime(["2026-01-01", "2026-06-01"], utc=True),
        ["2026-01-01", "2026-06-01"],
        [datetime(2026, 1, 1).date(), datetime(2026, 6, 1).date()],
    ],
)
def test_dates_are_compared_however_they_are_stored(rules, values):
    frame = pd.DataFrame({"when": values})
    assert len(broken(rules("[columns.when]\nmin = 2026-03-01"), frame)) == 1
    assert broken(rules("[columns.when]\nmin = 2025-03-01T10:00:00Z"), frame) == []
    assert newest(frame, "when") == datetime(2026, 6, 1, tzinfo=UTC)


def test_an_empty_table_breaks_the_rule_that_there_are_rows(rules):
    assert broken(rules(""), FRAME.head(0)) == ["there are at least 1 row, but there are 0"]


def test_the_schema_is_pandera_s(rules):
    compiled = schema(rules('[columns.id]\ntype = "integer"'))
    assert type(compiled).__module__.startswith("pandera")


NOW = datetime(2026, 11, 23, tzinfo=UTC)
FRESH = Rules(columns={}, freshness=Freshness(column="when", max_age_days=2))


@pytest.mark.parametrize(
    ("age_h", "said"), [(0, []), (48, []), (49, ["2.0 days ago"]), (-5, []), (None, ["none"])]
)
def test_freshness_holds_up_to_the_age_and_not_beyond(age_h, said):
    newest = None if age_h is None else NOW - timedelta(hours=age_h)
    found = check_age(FRESH, newest, NOW)
    assert len(found) == len(said)
    assert all(part in str(failure) for part, failure in zip(said, found, strict=True))


def test_without_a_freshness_rule_no_age_is_too_old():
    assert check_age(dataclasses.replace(FRESH, freshness=None), None, NOW) == []


WRONG = [
    ("min_row = 1", 1, "did you mean 'min_rows'"),
    ("\n\nmin_rows = true", 3, "whole number"),
    ('min_rows = "1"', 1, "whole number"),
    ("[columns.price]\nmim = 1", 2, "did you mean 'min'"),
    ('[columns."a.b"]\ntype = "numbr"', 2, "did you mean 'number'"),
    ('[columns.price]\ntype = "number"\n[columns.id]\ntype = "x"', 4, "no type 'x'"),
    ("[columns.price]\npattern = '['", 2, "no pattern"),
    ("[columns.price]\nmin = 'a'", 2, "a number or a date"),
    ("[columns]\nprice = 1", 2, "is a section"),
    ("columns = 1", 1, "a section"),
    ('[freshness]\ncolumn = "a"', 1, "needs max_age_days"),
    ("[freshness]\nmax_age = 1", 2, "max_age_days"),
    ("required = 'id'", 1, "a list"),
    ("required = [1]", 1, "names of columns"),
    ("unique = [1]", 1, "names of columns"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_what_is_no_rule_is_refused_with_its_line(rules, text, line, said):
    with pytest.raises(ProjectError) as error:
        rules(text)
    assert f"ames.checks.toml:{line}:" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["a = ", "\ufeffx", "[a"])
def test_what_is_no_toml_is_refused(rules, text):
    with pytest.raises(ProjectError, match=r"ames\.checks\.toml"):
        rules(text)


def test_a_failure_about_the_whole_table_is_its_rule():
    assert str(Failure(rule="there are rows")) == "there are rows"


def test_the_rules_that_the_how_to_shows_are_rules(rules):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text()
    (shown,) = (
        block for block in re.findall(r"```toml\n(.*?)```", page, re.S) if "min_rows" in block
    )
    assert rules(shown).freshness is not None
