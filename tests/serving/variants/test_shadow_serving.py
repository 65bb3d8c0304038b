"""Shadows of a server that answers: whatever they do, nobody waits for them."""

import asyncio
import threading
import time

import pytest

from charkha.serving.lanes import Lane
from charkha.serving.shadows import MOST_REQUESTS


def run(test):
    return asyncio.run(test)


class Wrapped:
    """A predictor that does something before it answers, where it is a shadow's."""

    form = "onnx"

    def __init__(self, predictor, before):
        self.predictor, self.before = predictor, before

    def predict(self, rows):
        self.before(rows)
        return self.predictor.predict(rows)


def shadowed(before):
    return lambda predictor, role: Wrapped(predictor, before) if role == "shadow" else predictor


def test_a_shadow_answers_the_same_rows_under_the_same_ids_and_nobody_sees_it(serving):
    async def test():
        async with serving("champion", "+3") as server:
            said = [(await server.ask(n)).json() for n in range(1, 20)]
            assert {answer["version"] for answer in said} == {2}
            await server.until(lambda: len(server.records) == 38)
            by_role = {
                role: {
                    record[0]: (record[5], record[6])
                    for _, r, _, record in server.records
                    if r == role
                }
                for role in ("live", "shadow")
            }
            assert by_role["live"].keys() == by_role["shadow"].keys() == {a["id"] for a in said}
            for row_id, (row, value) in by_role["live"].items():
                assert by_role["shadow"][row_id] == (row, pytest.approx(value * 1.5))

    run(test())


def test_a_shadow_that_sleeps_delays_no_answer_and_the_server_drains(serving):
    async def test():
        async with serving("champion", "+3", wrap=shadowed(lambda rows: time.sleep(1))) as server:
            for n in range(1, 200):
                said = (await server.ask(n)).json()
                assert (said["prediction"], said["version"]) == (pytest.approx(2 * n), 2)
                # it is at its first or second batch while all of these are answered
            live = [record for _, role, _, record in server.records if role == "live"]
            assert len(live) == 199
        shadow = [record for _, role, _, record in server.records if role == "shadow"]
        assert {record[0] for record in shadow} == {record[0] for record in live}

    run(test())


def test_a_shadow_that_raises_is_counted_and_hurts_nobody(serving):
    def refuse(rows):
        raise ZeroDivisionError("secret")

    async def test():
        async with serving("champion", "+3", wrap=shadowed(refuse)) as server:
            for n in range(1, 50):
                answer = await server.ask(n)
                assert answer.status_code == 200
                assert "secret" not in answer.text
            await server.until(lambda: server.dropped("v3", 3, "failed") == 49)
            assert {role for _, role, _, _ in server.records} == {"live"}

    run(test())


def test_a_shadow_that_hangs_drops_what_is_too_much_and_can_be_taken_away(serving):
    release = threading.Event()

    async def test():
        wrap = shadowed(lambda rows: release.wait(60))
        async with serving("champion", "+3", wrap=wrap) as server:
            rows = [{"area": n} for n in range(1, 41)]
            for _ in range(MOST_REQUESTS + 100):
                assert (await server.http.post("/predict", json=rows)).status_code == 200
            assert server.dropped("v3", 3, "behind") > 100
            await asyncio.to_thread(server.lead.drop, "v3")
            assert server.versions == {"champion": 2}
            assert (await server.ask(3)).status_code == 200
            release.set()

    run(test())


def test_a_shadow_with_other_columns_gets_what_it_can_take(serving, models):
    models.add(5, 5.0, "place")  # wants place, and area as a whole number

    async def test():
        async with serving("5", "+3") as server:  # asked for place and area, followed by area alone
            said = (await server.ask(4, place="N")).json()
            assert said["prediction"] == pytest.approx(20)
            await server.until(lambda: len(server.records) == 2)
            shadow = next(record for _, role, _, record in server.records if role == "shadow")
            assert (shadow[5], shadow[6]) == ((4.0,), pytest.approx(12))
        async with serving("3", "+5") as server:  # the other way round there is no place
            assert (await server.ask(4)).status_code == 200
            await server.until(lambda: server.dropped("v5", 5, "columns") == 1)

    run(test())


def test_shares_leave_a_shadow_alone_and_it_is_none_of_the_shares(serving):
    async def test():
        async with serving("champion=1", "3=1", "+next:4") as server:
            shadow = server.switch.routes.shadows[0]
            await asyncio.to_thread(server.lead.set_shares, {"champion": 3, "v3": 1})
            assert server.switch.routes.shadows == (shadow,)
            for n in range(40):
                assert (await server.ask(n)).json()["version"] in (2, 3)
            await server.until(lambda: sum(r == "shadow" for _, r, _, _ in server.records) == 40)

    run(test())


def test_a_shadow_that_answers_from_now_on_has_a_lane_of_its_own(serving):
    async def test():
        async with serving("champion=1", "+next:3") as server:
            before = server.switch.routes.shadows[0]
            await asyncio.to_thread(server.lead.drop, "next")
            from charkha.serving.wanted import read_asked

            await asyncio.to_thread(server.lead.add, read_asked("next:3=1"))
            now = server.switch.routes.live[1]
            assert (now.name, now is before) == ("next", False)
            assert isinstance(now.lane, Lane)
            assert not server.switch.routes.shadows

    run(test())
