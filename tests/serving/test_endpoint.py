import asyncio
import json
import threading

import httpx
import pytest

from charkha.errors import DataError
from charkha.serving.app import Endpoint
from charkha.serving.fastapi import make_admin
from charkha.serving.loading import ServedModel
from charkha.serving.predictors.onnxruntime import OnnxPredictor
from charkha.serving.predictors.port import Answers
from charkha.serving.schema import RowSchema, example_rows


def served(folder, predictor=None):
    described = json.loads((folder / "package.json").read_text())
    return ServedModel(
        name=described["name"],
        version=7,
        described=described,
        schema=RowSchema(described["signature"]["inputs"]),
        example=example_rows((folder / "input_example.json").read_text()),
        predictor=predictor or OnnxPredictor(folder, described, allow_pickle=False),
    )


def endpoint(model, **limits):
    return Endpoint(model, make_admin(model), **limits)


def ask(app, method, path, **how):
    async def asked():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await client.request(method, path, **how)

    return asyncio.run(asked())


@pytest.fixture
def prices(package):
    return endpoint(served(package("prices")))


def test_one_row_gets_one_prediction_with_id_model_and_version(prices):
    answer = ask(prices, "POST", "/predict", json={"area": 3, "district": "North"})
    assert answer.status_code == 200
    said = answer.json()
    assert said["prediction"] == pytest.approx(16, abs=1e-3)
    assert (said["model"], said["version"]) == ("prices", 7)
    assert said["id"]


def test_many_rows_get_as_many_in_order(prices):
    rows = [{"area": 3}, {"area": 1}, {"area": 2}]
    said = ask(prices, "POST", "/predict", json=rows).json()
    assert said["predictions"] == pytest.approx([6, 2, 4], abs=1e-3)


def test_every_request_has_an_id_of_its_own(prices):
    ids = [ask(prices, "POST", "/predict", content=b).json()["id"] for b in (b"{", b"{}", b"[]")]
    assert len(set(ids)) == 3


def test_a_class_comes_with_its_probabilities(package):
    said = ask(endpoint(served(package("sold"))), "POST", "/predict", json={"area": 8}).json()
    assert said["prediction"] is True
    assert said["probabilities"]["True"] > 0.9


def test_a_wrong_row_is_a_problem_that_names_the_field(prices):
    answer = ask(prices, "POST", "/predict", json=[{"area": 1}, {"area": "big"}])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [
        {"detail": "Expected 'float', got 'str'", "pointer": "#/1/area"}
    ]


def test_another_method_is_told_which(prices):
    answer = ask(prices, "GET", "/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_that_is_too_large_is_not_read_to_its_end(package):
    small = endpoint(served(package("prices")), max_body_bytes=10)
    assert ask(small, "POST", "/predict", content=b"[" + b" " * 20).status_code == 413


class Failing:
    form = "native"

    def __init__(self, error):
        self.error = error

    def predict(self, columns):
        raise self.error


def test_a_model_that_fails_tells_the_log_why_and_the_caller_only_that(package, caplog):
    failing = endpoint(served(package("prices"), Failing(RuntimeError("secret row"))))
    answer = ask(failing, "POST", "/predict", json={"area": 1})
    assert answer.status_code == 500
    assert "secret row" not in answer.text
    assert answer.json()["id"] in caplog.text
    assert "secret row" in caplog.text


def test_a_model_that_refuses_rows_is_the_callers_affair(package):
    refusing = endpoint(served(package("prices"), Failing(DataError("area is negative"))))
    answer = ask(refusing, "POST", "/predict", json={"area": 1})
    assert (answer.status_code, answer.json()["detail"]) == (422, "area is negative")


def test_health_is_answered_while_the_model_is_busy(package):
    release = threading.Event()

    class Slow:
        form = "native"

        def predict(self, columns):
            release.wait(30)
            return Answers([1.0])

    app = endpoint(served(package("prices"), Slow()))

    async def both():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            slow = asyncio.create_task(client.post("/predict", json={"area": 1}))
            health = await client.get("/healthz")
            assert not slow.done()
            release.set()
            return health, await slow

    health, slow = asyncio.run(both())
    assert health.json() == {"status": "ok", "model": "prices", "version": 7, "form": "native"}
    assert slow.json()["prediction"] == 1.0


def test_openapi_names_the_features_and_has_an_example(prices):
    document = ask(prices, "GET", "/openapi.json").json()
    row = document["components"]["schemas"]["Row"]
    assert row["properties"]["area"]["type"] == "number"
    assert row["properties"]["district"]["type"] == ["string", "null"]
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["one row"]["value"]
    assert ask(prices, "POST", "/predict", json=example).status_code == 200
    assert "/healthz" in document["paths"]
