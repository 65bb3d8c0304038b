"""What a server answers: every method and path, with the key that it needs; a page is made from this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.serving.keys import Scope


@dataclass(frozen=True, kw_only=True)
class Route:
    """One thing that can be asked."""

    method: str
    path: str  # with {…} for what stands for something
    text: str
    scope: Scope | None = None  # that a key has to have, where keys are needed; None: no key


PREDICT = (
    Route(
        method="POST",
        path="/predict",
        text="Predict one row or many, by the names of the features; JSON, Parquet or an Arrow"
        " stream.",
        scope="predict",
    ),
    Route(
        method="POST",
        path="/invocations",
        text="MLflow's scoring protocol: `dataframe_split`, `dataframe_records`, `instances`,"
        " `inputs`, CSV.",
        scope="predict",
    ),
    Route(
        method="POST",
        path="/v2/models/{name}/infer",
        text="Open Inference Protocol: predict with the variant that takes the request.",
        scope="predict",
    ),
    Route(
        method="POST",
        path="/v2/models/{name}/versions/{version}/infer",
        text="The same with this version, as far as the server holds it.",
        scope="predict",
    ),
)
BESIDE = (
    Route(
        method="POST",
        path="/feedback",
        text="Say what has come true of earlier predictions, one or many.",
        scope="feedback",
    ),
    Route(method="GET", path="/healthz", text="200 while the process lives, with what it holds."),
    Route(
        method="GET",
        path="/readyz",
        text="200 once versions are loaded and warm, 503 before that and while the server drains.",
    ),
    Route(method="GET", path="/metrics", text="[Metrics](metrics.md) of all workers together."),
    Route(method="GET", path="/ping", text="MLflow's name for `/readyz`."),
    Route(method="GET", path="/version", text="The version of Charkha, as MLflow tells its own."),
    Route(method="GET", path="/v2", text="Open Inference Protocol: what this server is."),
    Route(method="GET", path="/v2/health/live", text="Its name for `/healthz`."),
    Route(method="GET", path="/v2/health/ready", text="Its name for `/readyz`."),
    Route(method="GET", path="/v2/models/{name}", text="The inputs and outputs of the model."),
    Route(
        method="GET",
        path="/v2/models/{name}/versions/{version}",
        text="The inputs and outputs of a version.",
    ),
    Route(method="GET", path="/v2/models/{name}/ready", text="Whether the model takes requests."),
    Route(
        method="GET",
        path="/v2/models/{name}/versions/{version}/ready",
        text="Whether the version takes requests.",
    ),
    Route(method="GET", path="/docs", text="The endpoints and the model's features, to be tried."),
    Route(method="GET", path="/openapi.json", text="The same as an OpenAPI document."),
)
ADMINISTRATION = (
    Route(
        method="GET",
        path="/status",
        text="What is wanted, what each worker holds, and what did not work.",
    ),
    Route(method="PUT", path="/shares", text="Share the traffic among the variants that answer."),
    Route(method="POST", path="/variants", text="Load, check and hold another version."),
    Route(
        method="DELETE",
        path="/variants/{name}",
        text="Hold a variant no longer, once it has answered what it was asked.",
    ),
    Route(method="GET", path="/docs", text="These endpoints, to be tried; needs no token."),
    Route(method="GET", path="/openapi.json", text="The same as an OpenAPI document."),
)
HEADERS = (  # of requests that predict, and of their answers
    ("charkha-key", "request", "who asks: the same key finds the same variant"),
    ("charkha-entity", "request", "what the rows are about, for the records: `customer=7,shop=3`"),
    ("authorization", "request", "`Bearer KEY`, where an API key is needed; or `x-api-key: KEY`"),
    ("traceparent", "request", "W3C Trace Context, which the server's span goes on with"),
    ("charkha-id", "answer", "the request's id, a UUIDv7; its first row has the same"),
    ("retry-after", "answer", "seconds, with 429 and 503"),
)
