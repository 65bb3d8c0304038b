import asyncio
import threading
import time

import pytest

from charkha.errors import Bug, DataError, Unavailable
from charkha.serving.lanes import Ask, Lane
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem


class Doubling:
    form = "native"

    def __init__(self, pause_s: float = 0.0) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.pause_s = pause_s

    def predict(self, rows):
        self.batches.append(len(rows))
        self.threads.add(threading.get_ident())
        time.sleep(self.pause_s)
        if any(row[0] == "bad" for row in rows):
            raise DataError("that row is bad")
        if any(row[0] == "bug" for row in rows):
            raise ZeroDivisionError
        return Answers([2 * row[0] for row in rows])


class Waiting(Ask):
    __slots__ = ("said",)

    def __init__(self, *values: object) -> None:
        self.rows, self.ids = [(value,) for value in values], [f"id-{v}" for v in values]
        self.at_us, self.started, self.key, self.entities = 1, time.perf_counter(), None, None
        self.said = asyncio.get_running_loop().create_future()

    def answer(self, said):
        self.said.set_result(said)


def through(predictor, asks, **how):
    """Return what a lane says of each."""

    async def asked():
        lane = Lane(predictor, **how)
        waiting = [Waiting(*values) for values in asks]
        for ask in waiting:
            lane.ask(ask)
        said = await asyncio.gather(*(ask.said for ask in waiting))
        lane.close()
        lane.join(5)
        return said

    return asyncio.run(asked())


def test_what_arrives_together_is_one_batch_and_each_gets_its_own():
    predictor = Doubling()
    said = through(predictor, [(1,), (2, 3), (4,)])
    assert [answers.values for answers in said] == [[2], [4, 6], [8]]
    assert predictor.batches == [4]


def test_what_arrives_while_the_model_is_busy_is_the_next_batch():
    predictor = Doubling(pause_s=0.05)

    async def asked():
        lane = Lane(predictor)
        first = Waiting(1)
        lane.ask(first)
        await asyncio.sleep(0.02)
        more = [Waiting(n) for n in range(5)]
        for ask in more:
            lane.ask(ask)
            await asyncio.sleep(0)
        assert lane.waiting == 6
        await asyncio.gather(*(ask.said for ask in more))
        assert lane.waiting == 0
        lane.close()

    asyncio.run(asked())
    assert predictor.batches == [1, 5]
    assert len(predictor.threads) == 1


def test_a_batch_has_at_most_so_many_rows_and_a_larger_request_is_one_of_its_own():
    predictor = Doubling()
    said = through(predictor, [(1, 2), (3, 4), tuple(range(9)), (5,)], most_rows=4)
    assert predictor.batches == [4, 9, 1]
    assert [len(answers.values) for answers in said] == [2, 2, 9, 1]


def test_nobody_fails_for_a_neighbour():
    said = through(Doubling(), [(1,), ("bad",), (2,), ("bug",)])
    assert said[0].values == [2]
    assert said[2].values == [4]
    assert (said[1].status, said[3].status) == (422, 500)


def test_the_row_that_is_refused_is_named():
    (said,) = through(Doubling(), [(1, 2, "bad")])
    assert isinstance(said, Problem)
    assert said.errors == [{"detail": "that row is bad", "pointer": "#/2"}]


def test_a_fault_of_the_model_says_nothing_of_it_to_the_caller(caplog):
    (said,) = through(Doubling(), [("bug",)])
    assert said.status == 500
    assert "Zero" not in str(said.as_json())
    assert "ZeroDivisionError" in caplog.text


def test_a_batch_is_kept_in_one_piece_before_anybody_hears_of_it():
    kept = []
    said = through(Doubling(), [(1,), (2, 3), ("bad",)], keep=kept.append)
    records = [record for batch in kept for record in batch]
    assert [(r[0], r[5], r[6]) for r in records] == [
        ("id-1", (1,), 2),
        ("id-2", (2,), 4),
        ("id-3", (3,), 6),
    ]
    assert len(kept) == 1
    assert all(record[2] >= 0 for record in records)
    assert said[2].status == 422


def test_what_cannot_be_kept_is_not_answered():
    def keep(records):
        raise Unavailable("the disk is full")

    (said,) = through(Doubling(), [(1,)], keep=keep)
    assert isinstance(said, Unavailable)


def test_a_fault_in_keeping_is_told_and_the_lane_goes_on(caplog):
    calls = []

    def keep(records):
        calls.append(records)
        if len(calls) == 1:
            raise ZeroDivisionError

    said = through(Doubling(), [(1, 2, 3), (4, 5, 6)], keep=keep, most_rows=3)
    assert said[0].status == 500
    assert said[1].values == [8, 10, 12]
    assert "ZeroDivisionError" in caplog.text


class Short(Doubling):
    def predict(self, rows):
        return Answers(super().predict(rows).values[1:])


def test_too_few_answers_are_nobodys_answers():
    said = through(Short(), [(1,), (2,)])
    assert [each.status for each in said] == [500, 500]


def test_a_lane_behind_does_not_try_again_and_counts():
    failures, predictor = [], Doubling()
    through(
        predictor,
        [(1,), ("bug",)],
        behind=True,
        failed=lambda error, rows: failures.append((type(error), rows)),
    )
    assert failures == [(ZeroDivisionError, 2)]
    assert predictor.batches == [2]


def test_closing_answers_what_is_in_and_takes_nothing_more():
    async def asked():
        lane = Lane(Doubling(pause_s=0.02))
        ask = Waiting(21)
        lane.ask(ask)
        lane.close()
        with pytest.raises(Bug):
            lane.ask(Waiting(1))
        return (await ask.said).values

    assert asyncio.run(asked()) == [42]


def test_every_request_is_answered_once_whatever_comes_when():
    async def asked():
        lane = Lane(Doubling(), most_rows=7)
        waiting = []
        for n in range(2000):
            ask = Waiting(*range(n % 4 + 1))
            waiting.append(ask)
            lane.ask(ask)
            if n % 13 == 0:
                await asyncio.sleep(0)
        for n, ask in enumerate(waiting):
            assert (await ask.said).values == [2 * k for k in range(n % 4 + 1)]
        lane.close()

    asyncio.run(asked())
