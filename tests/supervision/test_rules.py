"""When a part is started again, when it is given up, and who ends before whom."""

from itertools import pairwise
from pathlib import Path

from charkha.supervision.parts import Part
from charkha.supervision.rules import MOST, WINDOW_S, after_death, ending_of, order_of_ending


def test_each_death_within_a_minute_doubles_the_pause_and_the_fifth_gives_up():
    verdicts = [after_death(range(n), n - 1) for n in range(1, MOST + 1)]
    pauses = [verdict.again_s for verdict in verdicts[:-1]]
    assert all(later == 2 * before for before, later in pairwise(pauses))
    assert verdicts[-1].again_s is None
    assert "5 times within 60 s" in verdicts[-1].because


def test_deaths_that_are_a_minute_ago_do_not_count():
    now = 1000.0
    old = [now - WINDOW_S] * 50
    assert after_death([*old, now], now) == after_death([now], now)


def test_a_part_that_dies_every_twenty_seconds_is_never_given_up():
    deaths = [20.0 * n for n in range(100)]
    assert all(after_death(deaths[: n + 1], deaths[n]).again_s is not None for n in range(100))


def test_an_end_is_told_by_its_code_or_its_signal():
    assert ending_of(3) == "it ended with 3"
    assert ending_of(-9) == "it was killed by SIGKILL"
    assert ending_of(-63) == "it was killed by signal 63"


def test_parts_end_by_their_rank_and_not_by_the_order_in_which_they_began():
    parts = [
        Part(name=name, command=(), folder=Path(), ends=ends)
        for name, ends in (("server", 1), ("loop", 0), ("page", 2), ("second loop", 0))
    ]
    groups = [[part.name for part in group] for group in order_of_ending(parts)]
    assert groups == [["loop", "second loop"], ["server"], ["page"]]
