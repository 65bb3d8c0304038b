"""Spans as a collector on loopback gets them over OTLP."""

import gzip
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from charkha.serving.finished import Finished
from charkha.serving.opentelemetry import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DONE = Finished(
    id="0190-1",
    path="/predict",
    headers={b"x-api-key": b"charkha_secret", b"authorization": b"Bearer charkha_secret"},
    status=200,
    seconds=0.25,
    model="houses",
    version=3,
    variant="champion",
    rows=50,
    key="k1",
)


class Collector(ThreadingHTTPServer):
    """Keeps the requests of OTLP/HTTP that it gets."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Taking)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.paths, self.resources, self.raw = [], [], b""

    @property
    def spans(self):
        return [
            span for told in self.resources for scope in told.scope_spans for span in scope.spans
        ]


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.append(self.path)
        self.server.raw += body
        self.server.resources += ExportTraceServiceRequest.FromString(body).resource_spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.02,))
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def traced(collector, *finished, **settings):
    tracing = Tracing(collector.url, model="houses", **settings)
    for one in finished:
        tracing(one)
    tracing.close()
    return collector.spans


def attributes(of):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def test_a_request_is_a_span_with_its_time_and_what_answered_it(collector):
    before = time.time_ns()
    [span] = traced(collector, DONE)
    assert collector.paths == ["/v1/traces"]
    assert span.name == "POST /predict"
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    assert before <= span.end_time_unix_nano <= time.time_ns()
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "charkha.id": "0190-1",
        "charkha.model": "houses",
        "charkha.version": 3,
        "charkha.variant": "champion",
        "charkha.rows": 50,
    }


def test_a_span_says_which_service_and_which_worker_it_is_of(collector):
    traced(collector, DONE, worker=2)
    told = attributes(collector.resources[0].resource)
    assert (told["service.name"], told["service.instance.id"]) == ("houses", "2")


def test_the_variables_of_opentelemetry_hold(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "prices")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    traced(collector, DONE)
    told = attributes(collector.resources[0].resource)
    assert told["service.name"] == "prices"
    assert told["deployment.environment.name"] == "prod"


def test_a_trace_of_the_caller_goes_on(collector):
    headers = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode(), b"tracestate": b"shop=1"}
    [span] = traced(collector, DONE._replace(headers=headers))
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "shop=1"


@pytest.mark.parametrize("text", [b"", b"nonsense", b"00-0-0-01", b"\xff\xfe", b"00-" + b"0" * 49])
def test_a_traceparent_that_cannot_be_read_begins_a_trace(collector, text):
    [span] = traced(collector, DONE._replace(headers={b"traceparent": text}))
    assert span.parent_span_id == b""


def test_a_caller_who_does_not_trace_is_not_traced(collector):
    headers = {b"traceparent": f"00-{TRACE}-{PARENT}-00".encode()}
    assert traced(collector, DONE._replace(headers=headers)) == []


def test_of_those_who_say_nothing_the_asked_for_part_is_traced(collector):
    headers = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}
    spans = traced(collector, *[DONE] * 50, DONE._replace(headers=headers), share=0.0)
    assert [span.trace_id.hex() for span in spans] == [TRACE]


@pytest.mark.parametrize(("status", "error"), [(422, False), (429, False), (500, True)])
def test_a_refusal_is_a_span_and_an_error_of_the_server_is_marked(collector, status, error):
    [span] = traced(collector, Finished("0190-1", "/predict", {}, status, 0.001))
    assert (span.status.code == span.status.STATUS_CODE_ERROR) is error
    told = attributes(span)
    assert told["http.response.status_code"] == status
    assert "charkha.version" not in told


def test_the_name_of_a_model_in_a_path_is_no_part_of_the_spans_name(collector):
    [span] = traced(collector, DONE._replace(path="/v2/models/houses/versions/3/infer"))
    assert span.name == "POST /v2/models/{name}/infer"


def test_no_key_reaches_the_collector(collector):
    traced(collector, DONE)
    assert b"charkha.id" in collector.raw
    assert b"charkha_secret" not in collector.raw


def test_an_address_with_a_path_is_taken_as_it_is(collector):
    tracing = Tracing(f"{collector.url}/otlp/v1/traces", model="houses")
    tracing(DONE)
    tracing.close()
    assert collector.paths == ["/otlp/v1/traces"]


def test_without_traces_nothing_of_opentelemetry_is_loaded():
    code = (
        "import sys, charkha.serving.app, charkha.serving.logs, charkha.serving.metrics\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_server_sends_its_spans_even_as_it_ends(collector, serve, registered, tmp_path):
    root = tmp_path / "traced"
    shutil.copytree(registered.root, root)
    with (root / "charkha.toml").open("a") as file:
        file.write(f'otlp_endpoint = "{collector.url}"\n')
    server = serve(root, "--port", "0")
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = httpx.post(f"{server.url}/predict", json=[{"area": 3}] * 2, headers=headers)
    refused = httpx.post(f"{server.url}/predict", json={"area": "Smith"})
    assert server.end()[0] == 0
    spans = {attributes(span)["charkha.id"]: span for span in collector.spans}
    assert set(spans) == {answer.headers["charkha-id"], refused.headers["charkha-id"]}
    span = spans[answer.headers["charkha-id"]]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(span)["charkha.rows"] == 2
    assert attributes(spans[refused.headers["charkha-id"]])["http.response.status_code"] == 422
    assert b"Smith" not in collector.raw
