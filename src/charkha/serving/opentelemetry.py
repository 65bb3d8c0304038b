"""Traces for OpenTelemetry: a span for each request that predicts, sent over OTLP in the background.

The span is made when the request is over, from the times that were taken anyway, and goes on with
the caller's `traceparent` (W3C Trace Context). What the SDK's own variables say (OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…) holds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from charkha import __version__

if TYPE_CHECKING:
    from charkha.serving.finished import Finished, Listener

_TIMEOUT_S = 5.0  # of one export, and of the last ones together
_ROUTES = {"/predict": "/predict", "/invocations": "/invocations"}


class Tracing:
    """Makes a span of each request that has finished; belongs to the event loop.

    Args:
        endpoint: of the collector, as `[serving] otlp_endpoint`; `/v1/traces` is added to an
            address without a path.
        model: name of the model, which is the service's name.
        worker: number of this process.
        share: part of the requests that are traced where the caller says nothing, from 0 to 1.
    """

    def __init__(self, endpoint: str, *, model: str, worker: int = 0, share: float = 1.0) -> None:
        if urlsplit(endpoint).path in ("", "/"):
            endpoint = f"{endpoint.rstrip('/')}/v1/traces"
        own = {
            "service.name": model,
            "service.version": __version__,
            "service.instance.id": str(worker),
        }
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share),
            resource=Resource.create().merge(Resource(own)).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("charkha", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, finished: Finished) -> None:
        """Put the span of a request into the queue; what does not fit into that is dropped."""
        ended_ns = time.time_ns()
        route = _ROUTES.get(finished.path, "/v2/models/{name}/infer")
        span = self._tracer.start_span(
            f"POST {route}",
            context=self._propagator.extract(_carrier(finished)),
            kind=SpanKind.SERVER,
            start_time=ended_ns - int(finished.seconds * 1e9),
            attributes=_attributes(finished, route),
        )
        if finished.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)

    def close(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Send what is in the queue, as far as that can be done in this time."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(timeout_s)


def _carrier(finished: Finished) -> dict[str, str]:
    """Return the headers that say of which trace a request is a part."""
    headers = finished.headers
    return {
        name.decode(): headers[name].decode("latin-1")
        for name in (b"traceparent", b"tracestate")
        if name in headers
    }


def _attributes(finished: Finished, route: str) -> dict[str, str | int]:
    told: dict[str, str | int | None] = {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": finished.status,
        "charkha.id": finished.id,
        "charkha.model": finished.model,
        "charkha.version": finished.version,
        "charkha.variant": finished.variant,
        "charkha.rows": finished.rows,
    }
    return {name: value for name, value in told.items() if value is not None}


if TYPE_CHECKING:
    _listener: Listener = Tracing("http://127.0.0.1:4318", model="houses")
