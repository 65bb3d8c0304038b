"""The endpoint by itself: `begin` with whole requests, and the same behind ASGI."""

import asyncio
import json
import uuid

import httpx
import pytest

from charkha.errors import DataError, Unavailable
from charkha.serving.app import Endpoint, Limits
from charkha.serving.counts import counting
from charkha.serving.lanes import Lane
from charkha.serving.loading import load_package
from charkha.serving.metrics import Meters
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem
from charkha.serving.variants import Routes, Switch, Variant


@pytest.fixture
def prices(package):
    return load_package(package("prices"), 7)


@pytest.fixture
def counts():
    with counting() as folder:
        yield folder


@pytest.fixture
def ask(counts):
    """Return `ask(model, path, body, headers)`, which gives status, document and headers."""

    def ask(model, body, *, path="/predict", headers=None, keep=None, **how):
        async def asked():
            meters = Meters(counts, 0)
            lane = Lane(model.predictor, keep=keep)
            variant = Variant("blue", model, lane, meters.variant("prices", 7, "blue", "live"))
            switch = Switch(Routes(live=(variant,), shares=(1.0,)))
            endpoint = Endpoint(switch, None, meters=meters, **how)
            answered = asyncio.get_running_loop().create_future()
            given = {name.encode(): value.encode() for name, value in (headers or {}).items()}
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            endpoint.begin(path, given, content, lambda *told: answered.set_result(told))
            status, told, own, request_id = await answered
            assert not endpoint.open
            assert variant.in_flight == 0
            lane.close()
            lane.join(10)
            meters.close()
            return status, json.loads(told), dict(own), request_id

        return asyncio.run(asked())

    return ask


def test_one_row_gets_one_prediction_with_id_model_version_and_variant(ask, prices):
    status, said, headers, request_id = ask(prices, {"area": 3, "district": "North"})
    assert status == 200
    assert said["prediction"] == pytest.approx(16, abs=1e-3)
    assert (said["model"], said["version"], said["variant"]) == ("prices", 7, "blue")
    assert uuid.UUID(said["id"]).version == 7
    assert request_id == said["id"]
    assert headers[b"content-type"] == b"application/json"


def test_many_rows_get_as_many_in_order_each_with_an_id(ask, prices):
    _, said, _, request_id = ask(prices, [{"area": 3}, {"area": 1}, {"area": 2}])
    assert said["predictions"] == pytest.approx([6, 2, 4], abs=1e-3)
    assert said["ids"][0] == said["id"] == request_id
    assert len(set(said["ids"])) == 3


def test_a_class_comes_with_its_probabilities(ask, package):
    sold = load_package(package("sold"), 1)
    _, said, _, _ = ask(sold, {"area": 8})
    assert said["prediction"] is True
    assert said["probabilities"]["True"] > 0.9
    _, said, _, _ = ask(sold, [{"area": 8}, {"area": 1}])
    assert said["predictions"] == [True, False]
    assert [row["True"] > 0.5 for row in said["probabilities"]] == [True, False]


def test_a_wrong_row_is_a_problem_that_names_the_field(ask, prices):
    status, said, headers, request_id = ask(prices, [{"area": 1}, {"area": "big"}])
    assert (status, headers[b"content-type"]) == (422, b"application/problem+json")
    assert said["errors"] == [{"detail": "Expected 'float', got 'str'", "pointer": "#/1/area"}]
    assert said["id"] == request_id


def test_what_is_kept_has_the_key_and_the_entities_of_the_request(ask, prices):
    kept = []
    headers = {"charkha-entity": "customer=7, shop=3"}
    ask(prices, {"area": 3}, headers=headers, keep=kept.extend, allowed=lambda h, m: "key-1")
    (record,) = kept
    assert record[3:7] == ("key-1", {"customer": "7", "shop": "3"}, (3.0, None), pytest.approx(6))


def test_a_header_that_cannot_be_read_is_a_problem(ask, prices):
    status, said, _, _ = ask(prices, {"area": 3}, headers={"charkha-entity": "customer"})
    assert (status, said["type"]) == (400, "urn:charkha:problem:malformed-header")


def test_who_may_not_ask_is_not_read(ask, prices):
    def allowed(headers, model):
        raise Problem(401, "no-key", "Who are you?", "send a key")

    assert ask(prices, b"{", allowed=allowed)[0] == 401


def test_more_rows_than_the_limit_are_too_many(ask, prices):
    status, said, _, _ = ask(prices, [{"area": 1}] * 4, limits=Limits(rows=3))
    assert (status, said["detail"]) == (413, "4 rows are more than 3; send them in parts")


def test_what_cannot_be_recorded_is_refused_where_that_is_wished(ask, prices):
    def keep(records):
        raise Unavailable("the disk is full")

    status, said, _, _ = ask(prices, {"area": 1}, keep=keep)
    assert (status, said["detail"]) == (503, "the disk is full")


class Failing:
    form = "native"

    def __init__(self, error):
        self.error = error

    def predict(self, rows):
        raise self.error


def test_a_model_that_fails_tells_the_log_why_and_the_caller_only_that(ask, prices, caplog):
    object.__setattr__(prices, "predictor", Failing(RuntimeError("secret row")))
    status, said, _, _ = ask(prices, {"area": 1})
    assert status == 500
    assert "secret row" not in json.dumps(said)
    assert said["id"] in caplog.text
    assert "secret row" in caplog.text


def test_a_model_that_refuses_rows_is_the_callers_affair(ask, prices):
    object.__setattr__(prices, "predictor", Failing(DataError("area is negative")))
    status, said, _, _ = ask(prices, {"area": 1})
    assert (status, said["detail"]) == (422, "area is negative")


class Short:
    form = "native"

    def predict(self, rows):
        return Answers([])


def test_a_model_that_answers_too_little_is_our_fault_and_an_answer_comes(ask, prices):
    object.__setattr__(prices, "predictor", Short())
    assert ask(prices, {"area": 1})[0] == 500


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/other/infer", 404),
        ("/v2/models/prices/versions/8/infer", 404),
        ("/v2/models/prices/more/7/infer", 404),
    ],
)
def test_another_model_or_version_is_not_found(ask, prices, path, status):
    assert ask(prices, b"{}", path=path)[0] == status


def behind_asgi(prices, counts, *requests):
    """Ask through ASGI; `rest` answers 418."""

    async def rest(scope, receive, send):
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def asked():
        meters = Meters(counts, 0)
        lane = Lane(prices.predictor)
        variant = Variant("blue", prices, lane, meters.variant("prices", 7, "blue", "live"))
        endpoint = Endpoint(
            Switch(Routes(live=(variant,), shares=(1.0,))),
            rest,
            meters=meters,
            limits=Limits(body_bytes=1000),
        )
        transport = httpx.ASGITransport(app=endpoint)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            answers = [await client.request(method, path, **how) for method, path, how in requests]
        lane.close()
        meters.close()
        return answers

    return asyncio.run(asked())


def test_behind_asgi_the_answers_are_the_same(prices, counts):
    good, other, get, large = behind_asgi(
        prices,
        counts,
        ("POST", "/predict", {"json": {"area": 3}}),
        ("GET", "/docs", {}),
        ("GET", "/predict", {}),
        ("POST", "/predict", {"content": b" " * 1001}),
    )
    assert good.json()["prediction"] == pytest.approx(6, abs=1e-3)
    assert good.headers["charkha-id"] == good.json()["id"]
    assert other.status_code == 418
    assert (get.status_code, get.headers["allow"]) == (405, "POST")
    assert large.status_code == 413
