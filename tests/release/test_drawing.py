"""What a person sees of a release."""

from dataclasses import replace

import pytest

from charkha.release.drawing import interval, lines
from charkha.release.judge import judge
from charkha.release.kept import Release
from charkha.release.plan import State, make_plan
from charkha.release.rules import Finding, Rules

FINDING = Finding(
    name="loss", metric="loss", baseline=1.0, candidate=1.02, difference=0.02, low=-0.02, high=0.04,
    margin=0.05, alpha=0.01, counts=(900, 900), worse=False, fine=True,
)  # fmt: skip


@pytest.fixture
def begun(seen):
    return Release(
        id="r1", model="prices", baseline=2, candidate=3, plan=make_plan("canary"), rules=Rules(),
        loss="auto", home="champion", began_at=0.0, by="ann", verdict=judge(seen(3000), Rules()).as_json(),
    )  # fmt: skip


def test_an_interval_is_drawn_from_low_to_high_with_the_margin_at_three_quarters():
    drawn = interval(FINDING)
    assert len(drawn) == 41
    assert [drawn.index(mark) for mark in "├●┤┆"] == [16, 24, 28, 30]


def test_it_closes_in_as_evidence_comes():
    wide = replace(FINDING, low=-0.04, high=0.08)
    assert interval(wide).count("─") > interval(FINDING).count("─")


def test_what_lies_beyond_the_line_goes_on_there():
    beyond = interval(replace(FINDING, low=None, high=9.0))
    assert (beyond[0], beyond[-1]) == ("<", ">")
    assert "●" not in interval(replace(FINDING, difference=None))


def test_status_says_where_it_is_why_and_each_metric_with_its_numbers(begun):
    text = "\n".join(lines(begun))
    assert "prices@3 instead of version 2: judging, canary stage 1 of 4, 1 % of the traffic" in text
    assert "because it begins" in text
    assert "keep collecting: not shown yet" in text
    for name in ("errors", "latency p95", "predictions", "loss, capped"):
        assert any(
            line.strip().startswith(name) and "open" in line or "fine" in line
            for line in lines(begun)
        )
    assert all(len(line) < 140 for line in text.splitlines()[3:])


def test_a_release_whose_time_is_over_says_what_to_type(begun):
    over = replace(begun, state=State(overdue=True, because="its time is over"), verdict=None)
    assert "charkha release promote, or abort" in "\n".join(lines(over))


def test_a_shadow_is_told(begun):
    assert "candidate follows as a shadow" in next(lines(replace(begun, plan=make_plan("shadow"))))
