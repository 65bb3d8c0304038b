"""Every server that is measured: how it is started with a model, asked, and understood."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from load import post
from numpy.typing import NDArray

from peers.environments import program
from peers.models import Model, as_records, compact, save_for_mlflow
from peers.process import free_port

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
RELATIVE = 1e-4  # by which an answer may differ from scikit-learn's

Numbers = list[float]


class Absent(Exception):
    """A contender that cannot run here; says why."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start a server."""

    command: Sequence[str]
    folder: Path
    told: dict[str, str] = field(default_factory=dict)  # variables for its environment


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One server."""

    name: str
    start: Callable[[Model, int, Path], Start]  # model, port, a folder of its own; raises Absent
    path: str
    ask: Callable[[Model, NDArray], bytes]  # rows -> a body
    said: Callable[[Any], Numbers] | None  # a document -> predictions; None: a constant
    settings: str = ""  # what was chosen for it, because it was the fastest here
    path_many: str | None = None  # of several rows, where it is another

    def requests(self, model: Model, rows_each: int) -> list[bytes]:
        """Return a request for each row, or for each `rows_each` rows, of the model's questions."""
        path = self.path_many if rows_each > 1 and self.path_many else self.path
        parts = [model.rows[i : i + rows_each] for i in starts(model, rows_each)]
        return [post(path, self.ask(model, part)) for part in parts]

    def is_right(self, model: Model, rows_each: int) -> Callable[[int, int, bytes], bool]:
        """Return what says of an answer to one of `requests` whether it is right."""
        if self.said is None:
            return lambda number, status, body: status == 200
        said = self.said
        expected = [model.answers[i : i + rows_each].tolist() for i in starts(model, rows_each)]

        def right(number: int, status: int, body: bytes) -> bool:
            if status != 200:
                return False
            try:
                answers, truth = said(json.loads(body)), expected[number]
                return len(answers) == len(truth) and all(
                    abs(a - t) <= RELATIVE * abs(t) for a, t in zip(answers, truth, strict=True)
                )
            except (ValueError, TypeError, KeyError, IndexError):
                return False

        return right


def spoiled(model: Model, request: bytes, row: int) -> bytes:
    """Return a request for one row with a text for a number, or with a value too few, in turn."""
    value = re.escape(json.dumps(float(model.rows[row][3])).encode())
    _, _, body = request.partition(b"\r\n\r\n")
    if row % 32 < 16:
        made = re.sub(rb"(?<=[:\[,])" + value + rb"(?=[,}\]])", b'"a lot"', body, count=1)
    else:
        made = re.sub(rb'("feature_3":)?(?<=[:\[,])' + value + rb",", b"", body, count=1)
    if made == body:
        raise ValueError(f"nothing to spoil in {body!r}")
    path = request.split(b" ", 2)[1].decode()
    return post(path, made)


def starts(model: Model, rows_each: int) -> range:
    """Return where the rows of each request begin."""
    return range(0, len(model.rows) - rows_each + 1, rows_each)


def _limit(model: Model, port: int, folder: Path) -> Start:
    command = [sys.executable, "-m", "uvicorn", "peers.raw:constant", "--port", str(port)]
    command += ["--http", "httptools", "--ws", "none", "--lifespan", "off", "--no-access-log"]
    command += ["--no-proxy-headers", "--no-server-header", "--no-date-header"]
    return Start(command=[*command, "--log-level", "warning"], folder=HERE.parent)


def _charkha(model: Model, port: int, folder: Path) -> Start:
    # What the server before left would be sealed while this one is measured.
    shutil.rmtree(model.project / ".charkha" / "records-open", ignore_errors=True)
    command = [str(BIN / "charkha"), "serve", model.name, "--port", str(port)]
    return Start(command=command, folder=model.project)


def _fastapi(model: Model, port: int, folder: Path) -> Start:
    _needs("fastapi")
    command = [sys.executable, "-m", "uvicorn", "peers.fastapi_app:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    return Start(command=command, folder=HERE.parent, told={"MODEL_FILE": str(model.named)})


def _mlflow(model: Model, port: int, folder: Path) -> Start:
    _needs("mlflow")
    if not model.mlflow.exists():
        save_for_mlflow(model)
    command = [str(BIN / "mlflow"), "models", "serve", "--model-uri", str(model.mlflow)]
    command += ["--env-manager", "local", "--port", str(port)]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # it starts `uvicorn` by name
    return Start(
        command=command, folder=folder, told={"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
    )


def _bentoml(model: Model, port: int, folder: Path) -> Start:
    command = [_installed("bentoml", "bentoml"), "serve", "bentoml_service:Model"]
    told = {"MODEL_FILE": str(model.unnamed), "BENTOML_HOME": str(folder / "home")}
    told |= {"BENTOML_DO_NOT_TRACK": "true", "BATCH": "1600"}
    told["BENTOML_CONFIG_OPTIONS"] = "api_server.logging.access.enabled=false"
    return Start(
        command=[*command, "--host", "127.0.0.1", "--port", str(port), "--quiet"],
        folder=HERE,
        told=told,
    )


def _mlserver(model: Model, port: int, folder: Path) -> Start:
    command = [_installed("mlserver", "mlserver"), "start", str(folder)]
    settings: dict[str, object] = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1"}
    settings |= {"http_port": port, "grpc_port": free_port(), "metrics_endpoint": None}
    own = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": 32,
        "max_batch_time": 0.002,
        "parameters": {"uri": str(model.unnamed)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(own))
    return Start(command=command, folder=folder)


def _litserve(model: Model, port: int, folder: Path) -> Start:
    command = [_installed("litserve", "python"), str(HERE / "litserve_server.py"), str(port)]
    told = {"MODEL_FILE": str(model.unnamed), "BATCH": "32", "BATCH_WAIT_S": "0.005"}
    return Start(command=command, folder=folder, told=told)


def _needs(module: str) -> None:
    if find_spec(module) is None:
        raise Absent(f"{module} is not installed")


def _installed(peer: str, name: str) -> str:
    found = program(peer, name)
    if found is None:
        raise Absent("it is not installed (benchmarks/serving.py --install-peers)")
    return found


def _named(model: Model, rows: NDArray) -> bytes:
    records = as_records(model, rows)
    return compact(records if len(records) > 1 else records[0])


def _split(model: Model, rows: NDArray) -> bytes:
    return compact({"dataframe_split": {"columns": model.columns, "data": rows.tolist()}})


def _nested(model: Model, rows: NDArray) -> bytes:
    return compact({"rows": rows.tolist()})


def _tensor(model: Model, rows: NDArray) -> bytes:
    tensor = {"name": "rows", "shape": rows.shape, "datatype": "FP64"}
    return compact({"inputs": [{**tensor, "data": rows.ravel().tolist()}]})


def _one_or_many(document: dict) -> Numbers:
    return document["predictions"] if "predictions" in document else [document["prediction"]]


LIMIT, CHARKHA = "raw ASGI, constant", "Charkha"
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(name=LIMIT, start=_limit, path="/predict", ask=_named, said=None),
        Contender(name=CHARKHA, start=_charkha, path="/predict", ask=_named, said=_one_or_many),
        Contender(
            name="FastAPI tutorial",
            start=_fastapi,
            path="/predict",
            path_many="/predict-many",
            ask=_named,
            said=_one_or_many,
            settings="def predict(item: Item), joblib, a DataFrame",
        ),
        Contender(
            name="mlflow models serve",
            start=_mlflow,
            path="/invocations",
            ask=_split,
            said=lambda document: document["predictions"],
            settings="--env-manager local, dataframe_split",
        ),
        Contender(
            name="BentoML",
            start=_bentoml,
            path="/predict",
            ask=_nested,
            said=lambda document: document,
            settings="batchable, max_batch_size 1600 rows, 1 worker, no access log",
        ),
        Contender(
            name="MLServer",
            start=_mlserver,
            path="/v2/models/model/infer",
            ask=_tensor,
            said=lambda document: document["outputs"][0]["data"],
            settings="max_batch_size 32, max_batch_time 2 ms, parallel_workers 0",
        ),
        Contender(
            name="LitServe",
            start=_litserve,
            path="/predict",
            ask=_nested,
            said=lambda document: document["predictions"],
            settings="max_batch_size 32, batch_timeout 5 ms, 1 API server, no access log",
        ),
    )
}
