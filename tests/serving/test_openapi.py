"""What a server says of itself: its OpenAPI document, its page, and what the protocols ask."""

import asyncio
import json
from contextlib import contextmanager
from html.parser import HTMLParser
from types import SimpleNamespace

import httpx
import jsonschema
import pytest

from charkha import __version__
from charkha.serving.app import Endpoint
from charkha.serving.counts import counting
from charkha.serving.discovery import Discovery
from charkha.serving.endpoints import BESIDE, PREDICT
from charkha.serving.fastapi import make_documentation
from charkha.serving.lanes import Lane
from charkha.serving.loading import load_package
from charkha.serving.metrics import Meters
from charkha.serving.openapi import document
from charkha.serving.page import page
from charkha.serving.rest import Rest, told
from charkha.serving.schema import RowSchema
from charkha.serving.variants import Routes, Switch, Variant

COLUMNS = [
    {"name": "area", "type": "double", "required": True},
    {"name": "rooms", "type": "integer", "required": True},
    {"name": "code", "type": "string", "required": True},
    {"name": "sold", "type": "long", "required": False},
    {"name": "<b>", "type": "float", "required": False, "categories": None},
    {"name": "district", "type": "string", "required": False, "categories": ["North"]},
    {"name": "garage", "type": "boolean", "required": False},
    {"name": "built", "type": "datetime", "required": True},
]
ROW = {"area": 1.5, "rooms": 3, "code": "x", "built": "2008-06-01", "<b>": None}


def variant_of(name="blue", version=7, classes=None):
    model = SimpleNamespace(
        name="prices",
        version=version,
        schema=RowSchema(COLUMNS),
        described={"classes": classes, "target": "price", "flavour": "sklearn"},
        classes=None if classes is None else tuple(map(str, classes)),
        example=[ROW],
        predictor=SimpleNamespace(form="onnx"),
    )
    return SimpleNamespace(name=name, model=model)


def routes_of(*variants):
    return Routes(live=variants, shares=(1.0,) * len(variants))


@pytest.fixture(scope="module", params=[None, [False, True], ["a", "b"], [1, "a"]], ids=str)
def described(request):
    """Return the document of a server with one version, as a client gets it."""
    return json.loads(json.dumps(document(routes_of(variant_of(classes=request.param)))))


def valid(described, name, value):
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_every_route_of_the_server_is_described_and_no_other(described):
    known = {(route.method.lower(), route.path) for route in (*PREDICT, *BESIDE)}
    known -= {("get", "/docs"), ("get", "/openapi.json")}  # they are the description
    paths = described["paths"].items()
    assert {(m, path) for path, ms in paths for m in ms if m != "parameters"} == known


def test_all_that_is_referred_to_is_there_and_all_that_is_there_is_referred_to(described):
    parts = {
        f"#/components/{kind}/{name}"
        for kind, named in described["components"].items()
        for name in named
        if kind != "securitySchemes"
    }
    text = json.dumps(described)
    assert {part for part in parts if f'"{part}"' not in text} == set()
    found, at = set(), 0
    while (at := text.find('"$ref": "', at)) >= 0:
        at += len('"$ref": "')
        found.add(text[at : text.index('"', at)])
    assert found <= parts


def test_the_names_of_operations_are_unique(described):
    names = [
        o["operationId"]
        for ms in described["paths"].values()
        for m, o in ms.items()
        if m != "parameters"
    ]
    assert len(set(names)) == len(names)


def test_schemas_are_schemas(described):
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_feature_has_its_type_and_bounds_and_an_example(described):
    row = described["components"]["schemas"]["Row"]
    assert row["properties"]["rooms"] == {
        "type": "integer",
        "format": "int32",
        "minimum": -(2**31),
        "maximum": 2**31 - 1,
    }
    assert row["properties"]["code"] == {"type": "string", "minLength": 1}
    assert row["properties"]["district"] == {"type": ["string", "null"], "examples": ["North"]}
    assert row["required"] == ["area", "rooms", "code", "built"]
    assert row["examples"] == [ROW]


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        (ROW, True),
        ({**ROW, "sold": 2**63 - 1, "garage": None, "district": ""}, True),
        ({**ROW, "area": "1"}, False),
        ({**ROW, "rooms": 2**31}, False),
        ({**ROW, "rooms": 3.5}, False),
        ({**ROW, "code": ""}, False),
        ({**ROW, "<b>": 1e39}, False),
        ({**ROW, "built": None}, False),
        ({**ROW, "more": 1}, False),
        ({k: v for k, v in ROW.items() if k != "area"}, False),
    ],
)
def test_the_document_allows_what_the_decoder_takes(described, row, fits):
    assert valid(described, "Row", row) == fits
    schema = RowSchema(COLUMNS)
    if fits:
        schema.decode(json.dumps(row).encode())
    else:
        with pytest.raises(Exception, match=r"Expected|Object|unknown"):
            schema.decode(json.dumps(row).encode())


def test_without_a_version_the_rest_is_described():
    made = document(Routes(live=(), shares=()))
    assert "/predict" not in made["paths"]
    assert "/feedback" in made["paths"]
    page(made)


class Reader(HTMLParser):
    """Collects the words of a page, and what it would load from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action")]

    def handle_data(self, data):
        self.words += data


def test_the_page_needs_nothing_from_elsewhere_and_shows_names_as_they_are(described):
    made = Reader(page(described))
    assert made.addresses == ["/openapi.json"]
    assert "b" not in made.tags
    for words in ("<b>", "/v2/models/{name}/infer", "number (float)", "date-time or date", '"x"'):
        assert words in made.words


class Server:
    """An endpoint with all its routes behind ASGI; `ask` sends one request."""

    def __init__(self, model, counts, ready):
        self._model, self._counts, self.ready = model, counts, ready

    def ask(self, method, path, **how):
        return asyncio.run(self._ask(method, path, how))

    async def _ask(self, method, path, how):
        meters = Meters(self._counts, 0)
        lane = Lane(self._model.predictor)
        variant = Variant("blue", self._model, lane, meters.variant("prices", 7, "blue", "live"))
        switch = Switch(Routes(live=(variant,), shares=(1.0,)))
        gets = {"/healthz": lambda headers, body: told({"status": "ok"})}
        rest = Rest(
            gets,
            {},
            Discovery(switch, lambda: self.ready).answer,
            lambda: make_documentation(switch),
            lambda: switch.routes,
            body_bytes=1000,
        )
        app = Endpoint(switch, rest, meters=meters)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            answer = await client.request(method, path, **how)
        lane.close()
        meters.close()
        return answer


@contextmanager
def served(model, *, ready=True):
    with counting() as counts:
        yield Server(model, counts, ready)


@pytest.fixture
def server(package):
    with served(load_package(package("prices"), 7)) as server:
        yield server


def test_a_server_shows_its_document_and_its_page(server):
    made = server.ask("GET", "/openapi.json").json()
    assert made["openapi"].startswith("3.1")
    assert (made["info"]["title"], made["info"]["version"]) == ("prices", "7")
    shown = server.ask("GET", "/docs")
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert "prices 7" in shown.text


def test_the_examples_of_the_document_are_answered_as_it_says(server):
    made = server.ask("GET", "/openapi.json").json()
    predict = made["paths"]["/predict"]["post"]
    for example in predict["requestBody"]["content"]["application/json"]["examples"].values():
        answer = server.ask("POST", "/predict", json=example["value"])
        assert answer.status_code == 200
        name = "Answers" if isinstance(example["value"], list) else "Answer"
        assert valid(made, name, answer.json())
    records = made["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    answer = server.ask("POST", "/invocations", json=records["examples"]["records"]["value"])
    assert valid(made, "Predictions", answer.json())
    tensors = made["components"]["schemas"]["InferenceRequest"]["examples"][0]
    assert valid(made, "InferenceRequest", tensors)
    answer = server.ask("POST", "/v2/models/prices/infer", json=tensors)
    assert answer.status_code == 200, answer.text
    assert valid(made, "InferenceResponse", answer.json())


def test_a_problem_is_as_the_document_says(server):
    made = server.ask("GET", "/openapi.json").json()
    for path in ("/predict", "/invocations", "/v2/models/prices/infer"):
        answer = server.ask("POST", path, content=b"[")
        assert answer.headers["content-type"] == "application/problem+json"
        assert valid(made, "Problem", answer.json())


def test_predictions_are_the_same_in_every_protocol(server):
    row = {"area": 3, "district": "North"}
    first = server.ask("POST", "/predict", json=row).json()["prediction"]
    told = server.ask("POST", "/invocations", json={"inputs": row}).json()
    assert told["predictions"] == [first]
    tensors = [
        {"name": "district", "shape": [1], "datatype": "BYTES", "data": ["North"]},
        {"name": "area", "shape": [1], "datatype": "FP64", "data": [3]},
    ]
    told = server.ask("POST", "/v2/models/prices/versions/7/infer", json={"inputs": tensors})
    assert told.json()["outputs"][0]["data"] == [first]
    table = server.ask(
        "POST",
        "/predict",
        content=b"area,district\n3,North\n",
        headers={"content-type": "text/csv"},
    )
    assert table.text.splitlines()[1].split(",")[1] == repr(first)
    assert table.headers["charkha-id"] in table.text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/ping", 200, b"\n"),
        ("/health", 200, b"\n"),
        ("/version", 200, __version__.encode()),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models/prices/ready", 200, {"name": "prices", "ready": True}),
        ("/v2/models/prices/versions/7/ready", 200, {"name": "prices", "ready": True}),
    ],
)
def test_protocols_ask_whether_it_is_there(server, path, status, said):
    answer = server.ask("GET", path)
    assert (answer.status_code, answer.content if isinstance(said, bytes) else answer.json()) == (
        status,
        said,
    )
    assert server.ask("HEAD", path).status_code == status


@pytest.mark.parametrize("path", ["/ping", "/v2/health/ready", "/v2/models/prices/ready"])
def test_a_server_that_is_not_ready_says_so(package, path):
    with served(load_package(package("prices"), 7), ready=False) as server:
        assert server.ask("GET", path).status_code == 503
        assert server.ask("GET", "/v2/health/live").status_code == 200


def test_metadata_names_the_tensors(package):
    with served(load_package(package("sold"), 3)) as server:
        assert server.ask("GET", "/v2").json() == {
            "name": "charkha",
            "version": __version__,
            "extensions": ["binary_tensor_data"],
        }
        told = server.ask("GET", "/v2/models/sold").json()
        assert told == server.ask("GET", "/v2/models/sold/versions/3").json()
        assert valid(server.ask("GET", "/openapi.json").json(), "Model", told)
    assert (told["name"], told["versions"], told["platform"]) == ("sold", ["3"], "onnxruntime_onnx")
    assert told["inputs"] == [
        {
            "name": "area",
            "datatype": "INT64",
            "shape": [-1],
            "parameters": {"type": "long", "required": True},
        }
    ]
    assert told["outputs"] == [
        {"name": "prediction", "datatype": "BOOL", "shape": [-1]},
        {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [-1, 2],
            "parameters": {"classes": ["False", "True"]},
        },
        {"name": "id", "datatype": "BYTES", "shape": [-1]},
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/prices/versions/8", 404),
        ("GET", "/v2/models/prices/versions/8/ready", 404),
        ("GET", "/v2/models/prices/config", 404),
        ("GET", "/v2/repository/index", 404),
        ("POST", "/v2/health/live", 405),
        ("PUT", "/ping", 405),
        ("POST", "/docs", 405),
        ("GET", "/v2/models/prices/infer", 405),
        ("OPTIONS", "/predict", 405),
        ("DELETE", "/healthz", 405),
    ],
)
def test_what_is_not_there_is_a_problem(server, method, path, status):
    answer = server.ask(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert ("error" in answer.json()) == (path.startswith("/v2") and not path.endswith("/infer"))
    assert status != 405 or answer.headers["allow"]
