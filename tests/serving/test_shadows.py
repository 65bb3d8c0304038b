"""What a shadow gets, and what it does not."""

import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from charkha.serving.lanes import Ask
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem
from charkha.serving.shadows import (
    MOST_REQUESTS,
    MOST_ROWS,
    Backlog,
    Complaints,
    GivingWay,
    translation,
)


def column(name, kind="double", required=True):
    return {"name": name, "type": kind, "required": required}


class Inbox:
    """A lane that answers when it is told to."""

    def __init__(self):
        self.asks = []
        self.waiting = 0

    def ask(self, ask):
        self.asks.append(ask)
        self.waiting += 1


class Counted:
    def __init__(self):
        self.losses, self.rows = [], 0

    def lost(self, reason):
        self.losses.append(reason)

    def answered(self, rows, seconds):
        self.rows += rows


def asked(*rows):
    ask = Ask()
    ask.rows, ask.ids = list(rows), [f"id-{n}" for n in range(len(rows))]
    ask.at_us, ask.started, ask.key, ask.entities = 7, 1.0, "a key", {"customer": "7"}
    return ask


def backlog(columns=None):
    lane, meter = Inbox(), Counted()
    return Backlog(columns or [column("area")], lane, meter), lane, meter


def test_it_gets_the_same_rows_under_the_same_ids():
    shadow, lane, _ = backlog()
    ask = asked((1.0,), (2.0,))
    shadow.take(ask, 3, [column("area")])
    (followed,) = lane.asks
    assert followed.rows is ask.rows
    for about in ("ids", "at_us", "key", "entities"):
        assert getattr(followed, about) == getattr(ask, about)
    assert followed.started > ask.started  # its time begins when the answer left


def test_what_comes_while_too_many_wait_is_dropped_and_counted():
    shadow, lane, meter = backlog()
    for _ in range(MOST_REQUESTS + 5):
        shadow.take(asked((1.0,)), 3, [column("area")])
    assert len(lane.asks) == MOST_REQUESTS
    assert meter.losses == ["behind"] * 5
    lane.waiting -= 1
    shadow.take(asked((1.0,)), 3, [column("area")])
    assert len(lane.asks) == MOST_REQUESTS + 1


def test_rows_are_limited_too_but_never_those_of_the_only_request():
    shadow, lane, meter = backlog()
    rows = [(1.0,)] * (MOST_ROWS - 10)
    shadow.take(asked(*rows), 3, [column("area")])
    shadow.take(asked(*rows[:11]), 3, [column("area")])
    shadow.take(asked(*rows[:10]), 3, [column("area")])
    assert (len(lane.asks), meter.losses) == (2, ["behind"])
    lane.waiting = 0
    shadow.take(asked(*rows, *rows), 3, [column("area")])
    assert len(lane.asks) == 3


def test_an_answer_is_counted_and_a_failure_too():
    shadow, lane, meter = backlog()
    shadow.take(asked((1.0,), (2.0,)), 3, [column("area")])
    lane.asks[0].answer(Answers([1.0, 2.0]))
    lane.asks[0].answer(Problem(500, "model-failed", "", ""))
    assert (meter.rows, meter.losses) == (2, ["failed"])


def test_other_columns_are_taken_by_their_names():
    given = [column("b", "long"), column("a", "string", False), column("c")]
    wanted = [column("a", "string", False), column("d", required=False), column("b")]
    translate = translation(given, wanted)
    assert translate([(1, "x", 0.5), (2, None, 0.5)]) == [("x", None, 1.0), (None, None, 2.0)]
    assert [type(v) for v in translate([(1, "x", 0.5)])[0]] == [str, type(None), float]


@pytest.mark.parametrize(
    ("given", "wanted", "value", "becomes"),
    [
        ("integer", "long", 5, 5),
        ("integer", "double", 5, 5.0),
        ("long", "double", 5, 5.0),
        ("long", "integer", 5, 5),
        ("long", "integer", 2**31, None),
        ("float", "double", 0.5, 0.5),
        ("double", "float", 0.5, 0.5),
        ("double", "float", 1e39, None),
        ("datetime", "string", "2008-06-01", "2008-06-01"),
    ],
)
def test_values_become_those_of_a_type_that_can_hold_them(given, wanted, value, becomes):
    translate = translation([column("a", given)], [column("a", wanted)])
    assert translate([(value,)]) == (None if becomes is None else [(becomes,)])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([column("a")], [column("a", "long")]),
        ([column("a", "string")], [column("a", "datetime")]),
        ([column("a", "boolean")], [column("a")]),
        ([column("a")], [column("b")]),
    ],
)
def test_what_cannot_be_translated_is_counted_for_each_request(given, wanted):
    shadow, lane, meter = backlog(wanted)
    shadow.take(asked((1.0,)), 3, given)
    shadow.take(asked((1.0,)), 3, given)
    assert (lane.asks, meter.losses) == ([], ["columns", "columns"])


def test_a_missing_value_in_a_column_that_the_shadow_requires_is_counted():
    shadow, lane, meter = backlog([column("a")])
    shadow.take(asked((1.0,), (None,)), 3, [column("a", required=False)])
    shadow.take(asked((1.0,), (2.0,)), 3, [column("a", required=False)])
    assert (len(lane.asks), meter.losses) == (1, ["columns"])


def test_each_version_that_answers_has_its_own_translation():
    shadow, lane, meter = backlog([column("a")])
    shadow.take(asked((1, 5.0)), 3, [column("b", "long"), column("a")])
    shadow.take(asked((6.0, 1)), 4, [column("a"), column("b", "long")])
    assert [ask.rows for ask in lane.asks] == [[(5.0,)], [(6.0,)]]


def test_a_shadow_that_fails_says_so_once_a_minute(caplog):
    now = SimpleNamespace(s=0.0)
    complain = Complaints("next", clock=lambda: now.s)
    for _ in range(1000):
        complain(ZeroDivisionError("secret row"), 3)
    assert len(caplog.records) == 1
    now.s = 61.0
    complain(ZeroDivisionError(), 3)
    assert "failed for 3000 rows" in caplog.records[1].getMessage()


class Working:
    """A predictor that needs a while on the processor."""

    form = "native"

    def __init__(self):
        self.times = []

    def predict(self, rows):
        self.times.append(time.perf_counter())
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        return Answers([0.0])


def test_it_works_a_tenth_of_the_time_while_somebody_waits():
    working = Working()
    shadow = GivingWay(working, lambda: True)
    assert shadow.form == "native"
    for _ in range(5):
        assert shadow.predict([(1.0,)]) == Answers([0.0])
    between = [b - a for a, b in pairwise(working.times)]
    assert min(between) >= 0.1


def test_it_rests_no_longer_than_somebody_waits():
    working, waiting = Working(), iter([True] * 3 + [False] * 100)
    shadow = GivingWay(working, lambda: next(waiting))
    for _ in range(5):
        shadow.predict([(1.0,)])
    assert sum(waiting) == 0


def test_the_first_batch_of_an_idle_server_waits_for_nobody():
    asked = []
    shadow = GivingWay(Working(), lambda: asked.append(1) or False)
    shadow.predict([(1.0,)])
    assert len(asked) == 1
