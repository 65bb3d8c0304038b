"""`charkha monitor report`: one file that is whole, names what drifted, and believes nobody's text."""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from charkha.cli.main import main
from charkha.data.profiles.building import build_profile, profile_column
from charkha.data.profiles.window import see_column, summarise
from charkha.ledger import Decision, open_ledger
from charkha.monitoring.checking import Checked
from charkha.monitoring.drift import alarm, judge
from charkha.monitoring.explaining import Contribution, Explained
from charkha.monitoring.performance import (
    Figure,
    MetricVerdict,
    Performance,
    PerformanceAlarm,
    Segment,
    WindowPerformance,
)
from charkha.monitoring.reporting.distributions import distribution, histogram
from charkha.monitoring.reporting.gathering import Gathered, gather
from charkha.monitoring.reporting.moments import story
from charkha.monitoring.reporting.report import make_report, written_report
from charkha.monitoring.reporting.svg import Scale, moments, ticks
from charkha.monitoring.reporting.verdict import summary
from charkha.monitoring.telling import tell
from charkha.monitoring.watching import look
from charkha.project import default_project

HOSTILE = "<script>alert('x')</script>"  # a column of the model
AT = 1_790_000_000.0


class Read(HTMLParser):
    """A document: its texts, its tags, and whether each is closed by its own end."""

    def __init__(self, page):
        super().__init__()
        self.open, self.wrong, self.tags, self.texts, self.attributes = [], [], [], [], []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.texts).split())
        assert self.wrong == []
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture
def drifted(watched):
    watched.record(watched.houses(1_000, 5), minutes_ago=60)
    watched.record(watched.houses(1_000, 6, grown=1.3, places=(0.2, 0.8)), minutes_ago=20)
    return watched


def test_the_file_is_whole_and_asks_for_nothing(drifted):
    page = make_report(drifted.project, "prices", window="500")
    read = Read(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|//\w|url\(|@import", page)
    names = {name for name, _ in read.attributes}
    assert names.isdisjoint({"src", "href", "action", "onload", "xlink:href"})
    assert not {"script", "link", "img", "iframe"} & set(read.tags)
    assert ("lang", "en") in read.attributes
    assert any("width=device-width" in (value or "") for _, value in read.attributes)


def test_every_picture_says_in_words_what_it_shows(drifted):
    page = make_report(drifted.project, "prices", window="500")
    pictures = re.findall(r"<svg[^>]*>(.*?)</svg>", page, re.DOTALL)
    assert len(pictures) >= 5
    for picture in pictures:
        assert re.match(r"<title>[^<]+</title><desc>[^<]+</desc>", picture)
    assert "Distribution of place" in page
    assert re.search(r"<desc>South \d+ % → \d+ %; North \d+ % → \d+ %</desc>", page)


def test_what_drifted_is_named_first_with_its_size_and_its_test(drifted):
    text = Read(make_report(drifted.project, "prices", window="500")).text
    assert "3 of 4 columns drifted" in text
    titles = re.findall(r"<h3>([^<]+)</h3>", make_report(drifted.project, "prices", window="500"))
    assert set(titles[:3]) == {"area", "place", "the prediction"}
    assert "median up 3" in text
    assert "by rank, KS" in text
    assert "needs attention" in text


def test_a_column_that_is_a_script_is_text(drifted):
    page = make_report(drifted.project, "prices", window="500")
    assert "<script" not in page
    assert HOSTILE in Read(page).text


def test_whatever_stands_in_the_ledger_is_text(drifted):
    ledger = open_ledger(drifted.project)
    told = {"kind": "loop", "subject": "prices@1", "who": HOSTILE}
    ledger.record(
        Decision(
            at=time.time(), because=f"<img src=x> {HOSTILE}", numbers={"what": HOSTILE}, **told
        )
    )
    ledger.close()
    page = make_report(drifted.project, "prices", window="500")
    assert "<script" not in page
    assert "<img" not in page
    assert f"<img src=x> {HOSTILE}" in Read(page).text


def test_few_rows_and_none_are_told_and_no_error(watched):
    text = Read(make_report(watched.project, "prices")).text
    assert "there is no record yet" in text
    assert "too early to tell" in text
    watched.record(watched.houses(20, 5))
    text = Read(make_report(watched.project, "prices")).text
    assert "no window has enough rows yet (20)" in text
    assert "1 window fewer than 200 rows" in text


def test_a_column_without_values_is_told_and_no_error(watched):
    rows = watched.houses(600, 5)
    rows["area"] = np.nan
    rows["place"] = None
    rows["price"] = 90_000.0
    watched.record(rows)
    text = Read(make_report(watched.project, "prices")).text
    assert "missing 0 % → 100 %" in text
    assert "No values on one side" in text


def test_what_is_left_out_says_why(drifted):
    (drifted.project.root / "charkha.toml").write_text(
        '[project]\nname = "prices"\n[monitoring]\nignore = ["place"]\n'
    )
    assert main(["monitor", "report", "prices", "--window", "500"]) == 0
    text = Read((drifted.project.root / "report.html").read_text()).text
    assert "place left out by the settings" in text
    assert "Distribution of place" not in text


def test_windows_are_so_large_that_there_are_few(watched):
    watched.record(watched.houses(30_000, 5))
    found = gather(watched.project, "prices")
    assert len(found.checked.verdicts) == 24
    assert found.window == "1,250 rows"


def test_open_alerts_stand_in_it(drifted):
    found = look(drifted.project, "prices", window="500")
    [alert] = tell(drifted.project, found.causes, scope="prices", destinations=[])
    text = Read(make_report(drifted.project, "prices", window="500")).text
    assert alert.id in text
    assert alert.cause.title in text


def test_the_command_writes_the_file_and_says_its_verdict(drifted, capsys):
    assert main(["monitor", "report", "prices", "--window", "500", "--out", "made/it.html"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("prices@1: 3 of 4 columns drifted")
    assert "made/it.html (" in out
    arguments = ["monitor", "report", "prices", "--window", "500", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["verdict"]) == ("prices@1", "needs attention")
    assert told["bytes"] < 100_000
    (drifted.project.root / "taken").write_text("")
    for out in (".", "taken/it.html"):
        assert main(["monitor", "report", "prices", "--window", "500", "--out", out]) == 1
        assert f"{out} cannot be written" in capsys.readouterr().err
    assert main(["monitor", "report", "prices@9"]) == 1
    assert main(["monitor", "report", "prices", "--window", "many"]) == 1


def measured(since, *, lower=True):
    day = timedelta(hours=6)
    metric = MetricVerdict(
        metric="mae",
        value=31_200.0,
        low=29_000.0,
        high=33_000.0,
        held_out=20_400.0,
        worse_by=10_800.0,
        share=0.53,
        p=1e-6,
        lower=lower,
        because="53 % more than 20,400",
    )
    estimate = Figure(metric="mae", value=30_000.0, low=27_000.0, high=33_000.0, rows=500)
    windows = [
        WindowPerformance(
            outcome=("lower" if lower else "as expected") if at else "not enough labels",
            because="so",
            since=since + at * day,
            until=since + (at + 1) * day,
            rows=500,
            labelled=400 if at else 3,
            metrics=(metric,) if at else (),
            estimates=(estimate,),
        )
        for at in (0, 1)
    ]
    segment = Segment(
        where=(("place <b>", "= North"),),
        rows=80,
        part=0.2,
        metric="mae",
        value=50_000.0,
        rest=20_000.0,
        held_out=None,
        worse_by=30_000.0,
        low=20_000.0,
        high=40_000.0,
        p=1e-5,
    )
    return Performance(
        version="prices@1",
        task="regression",
        target="price",
        held_out=(Figure(metric="mae", value=20_400.0, low=19_000.0, high=21_500.0, rows=800),),
        windows=tuple(windows),
        segments=(segment,),
        alarm=PerformanceAlarm(raised=lower, because="", since={"mae": since} if lower else {}),
    )


def test_performance_stands_beside_the_held_out_score_and_estimates_are_called_that(drifted):
    found = gather(drifted.project, "prices", window="500")
    since = datetime.now(UTC) - timedelta(hours=12)
    explained = Explained(
        version="prices@1",
        of="price",
        before=100.0,
        after=130.0,
        shift=30.0,
        columns=(Contribution(column="area", moved=31.0, low=29.0, high=33.0, share=1.03),),
    )
    full = replace(found, performance=measured(since), explained=explained)
    page = written_report(full)
    text = Read(page).text
    assert "its mae is worse: 31,200 where 20,400 was held out" in text
    assert "95 %: 29,000 to 33,000" in text
    assert "place <b> = North" in text
    assert "50,000" in text
    assert page.count('class="estimate"') == 2
    assert page.count('class="bad-dot"') == 1
    for name in ("held out", "measured", "estimate"):
        assert re.search(rf">{name}</text>", page)
    assert "+31 (+103 %)" in text


def test_performance_weighs_more_than_drift(drifted):
    found = gather(drifted.project, "prices", window="500")
    since = datetime.now(UTC)
    assert summary(replace(found, performance=measured(since))).sentence.startswith(
        "prices@1: its mae is worse"
    )
    calm = replace(found, checked=None, performance=measured(since, lower=False))
    assert (summary(calm).tone, summary(calm).word) == ("good", "as it should be")


def decided(project, *decisions):
    ledger = open_ledger(project)
    for at, (kind, subject, because, numbers) in enumerate(decisions):
        told = {"because": because, "numbers": numbers, "who": "eve"}
        ledger.record(Decision(at=AT + at, kind=kind, subject=subject, **told))
    ledger.close()


def test_the_story_tells_what_happened_with_its_reason(watched):
    release = {"release": "r1", "strategy": "canary", "from": 1, "to": 2}
    decided(
        watched.project,
        ("gate", "prices@2", "rmse is 20", {"verdict": {"passed": True}}),
        ("gate", "prices@3", "rmse is 90", {"verdict": {"passed": False}}),
        ("release", "prices@2", "started", {**release, "phase": "judging"}),
        ("release", "prices@2", "errors", {**release, "phase": "rolled back"}),
        ("promotion", "prices@1", "first", {}),
        ("rollback", "prices@1", "as asked", {}),
        ("alert", "prices@1", "opened: so", {"state": "opened", "title": "Drift in a"}),
        ("loop", "prices", "drift", {"what": "retraining started", "tone": "good"}),
        ("something", "prices", "new", {}),
        ("loop", "prices", "drift in a", {"phase": "training", "trigger": "drift"}),
        ("loop", "prices@3", "no better", {"phase": "ended", "outcome": "refused"}),
        ("gate", "prices-of-others@1", "no", {"verdict": {"passed": True}}),
    )
    told = [(m.subject, m.what, m.tone, m.because) for m in story(watched.project, "prices")]
    assert told == [
        ("prices@2", "passed the gate", "good", "rmse is 20"),
        ("prices@3", "refused by the gate", "bad", "rmse is 90"),
        ("prices@2", "canary release goes on", "neutral", "started"),
        ("prices@2", "release rolled back", "bad", "errors"),
        ("prices@1", "became champion", "good", "first"),
        ("prices@1", "champion again, by a rollback", "bad", "as asked"),
        ("prices@1", "alert opened: Drift in a", "bad", "so"),
        ("prices", "retraining started", "good", "drift"),
        ("prices", "something", "neutral", "new"),
        ("prices", "trains again: drift", "neutral", "drift in a"),
        ("prices@3", "turn of the loop ended: refused", "neutral", "no better"),
    ]
    assert len(story(watched.project, "prices", AT + 7)) == 4


def test_the_story_tells_of_drift_only_where_it_changed(watched):
    def drift(outcome, *columns, segment=None):
        numbers = {"outcome": outcome, "segment": segment, "drifted": list(columns)}
        return "drift", "prices@1", f"{outcome}: so", numbers

    decided(
        watched.project,
        drift("not enough data"),
        drift("no drift"),
        drift("no drift"),
        drift("drift", "input.a", segment="place = North"),
        drift("drift", "input.a"),
        drift("drift", "input.a"),
        drift("drift", "input.a", "input.b"),
        drift("no drift"),
    )
    told = story(watched.project, "prices")
    assert [m.what for m in told] == ["no drift", "drift", "drift", "no drift"]
    assert {m.because for m in told} == {"so"}


def both(then, now):
    profile = profile_column("x", pd.Series(then))
    return profile, see_column(arrow(now), profile)


def arrow(values):
    return pa.array(values, from_pandas=True)


def test_a_histogram_holds_every_row_on_both_sides():
    chance = np.random.default_rng(0)
    for then, now in (
        (chance.normal(0, 1, 3_000), chance.normal(5, 2, 800)),
        (chance.lognormal(0, 2, 3_000), chance.lognormal(1, 2, 800)),
        (chance.integers(1, 11, 3_000), chance.integers(0, 14, 800)),
        (np.full(100, 7.0), chance.normal(7, 1, 100)),
        (chance.normal(0, 1, 300), np.full(100, 0.3)),
    ):
        found = histogram(*both(then, now))
        assert found.then.sum() == pytest.approx(1)
        assert found.now.sum() == pytest.approx(1)
        assert (found.then >= 0).all()
        assert (found.now >= 0).all()
        assert (np.diff(found.bounds) > 0).all()


def test_a_histogram_agrees_with_counting():
    chance = np.random.default_rng(0)
    then, now = chance.normal(0, 1, 5_000), chance.normal(0.5, 1, 5_000)
    found = histogram(*both(then, now))
    inside = slice(1, -1)
    for shares, values in ((found.then, then), (found.now, now)):
        counted = np.histogram(values, found.bounds)[0] / len(values)
        assert shares[inside] == pytest.approx(counted[inside], abs=0.002)


def test_values_beyond_the_reference_are_seen_where_they_are():
    chance = np.random.default_rng(0)
    found = histogram(*both(chance.uniform(0, 1, 2_000), chance.uniform(5, 6, 500)))
    assert found.bounds[-1] == pytest.approx(6.2, abs=0.2)
    assert found.now[found.bounds[:-1] < 4].sum() < 0.001
    found = histogram(*both(chance.uniform(5, 6, 2_000), chance.uniform(0, 1, 500)))
    assert found.bounds[0] == pytest.approx(-0.2, abs=0.2)
    assert found.now[found.bounds[1:] > 2].sum() < 0.001


def test_whole_numbers_get_a_bin_each():
    found = histogram(*both([1, 2, 2, 3, 3, 3] * 50, [1, 1, 3] * 50))
    assert found.then == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert found.now == pytest.approx([2 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True, False] * 100),
        pd.Series(pd.date_range("2020-01-01", periods=300, freq="D")),
        pd.Series([f"a text that does not repeat, number {n}" for n in range(300)]),
        pd.Series([f"label {n % 30}" for n in range(600)]),
        pd.Series([5.0] * 300),
    ],
)
def test_every_kind_of_column_is_drawn(values):
    profile = profile_column("x", values)
    drawn = distribution("x", profile, see_column(arrow(values), profile))
    Read(drawn)
    assert "Distribution of" in drawn
    assert "nan" not in drawn


def test_years_have_no_comma():
    profile, seen = both(np.arange(1920, 2010).repeat(5), np.arange(1920, 2010))
    assert ">1950<" in distribution("Year", profile, seen)


def test_labels_that_are_new_are_called_so_and_the_rare_ones_are_one_bar():
    then = pd.Series([f"label {n % 30}" for n in range(600)])
    profile = profile_column("x", then)
    drawn = distribution(
        "x", profile, see_column(arrow(["label 1"] * 50 + ["brand"] * 50), profile)
    )
    assert "brand (new)" in drawn
    assert "24 others" in drawn


def test_ticks_are_round_and_inside():
    assert ticks(0, 100) == [0, 25, 50, 75, 100]
    assert ticks(13.2, 21.9, 3) == [15, 17.5, 20]
    assert ticks(5, 5) == []
    assert [text for _, text in moments(0, 43_200, 4)] == [
        "00:00",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
    ]
    scale = Scale(low=0, high=10, start=0, end=100)
    assert [scale(v) for v in (-5, 5, 50)] == [0, 50, 100]


def test_twenty_five_columns_fit_into_half_a_megabyte(tmp_path):
    settings = default_project(tmp_path).monitoring
    chance = np.random.default_rng(0)
    then = {f"input.c{n}": pa.array(chance.lognormal(0, 1, 20_000)) for n in range(24)}
    then["input.place"] = pa.array([f"label {n % 40}" for n in range(20_000)])
    profile = build_profile(then)
    seen = summarise(pa.table(then).slice(0, 2_000), profile)
    until = datetime.now(UTC)
    verdict = judge(
        profile,
        seen,
        settings,
        rows=2_000,
        since=until - timedelta(hours=1),
        until=until,
    )
    checked = Checked(
        version="prices@1",
        segment=None,
        verdicts=(verdict,) * 24,
        alarm=alarm([verdict.told], settings),
        reference_rows=20_000,
    )
    gathered = Gathered(
        version="prices@1",
        project="prices",
        made_at=until,
        since=None,
        until=until,
        window="2,000 rows",
        checked=checked,
        profile=profile.columns,
        seen=seen,
        performance=None,
        explained=None,
        alerts=(),
        moments=(),
        skipped=(),
    )
    page = written_report(gathered)
    Read(page)
    assert page.count("<article") == 25
    assert len(page.encode()) < 500_000
