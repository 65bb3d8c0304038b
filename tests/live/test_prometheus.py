"""Debian's Prometheus reads a server under load; what PromQL says is held against the load's own."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import default_project
from charkha.serving.families import DURATIONS_S, FAMILIES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from load import load, post

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed: apt-get install prometheus",
)

ROWS = 4_000  # a request: what the server does with them is nearly all of a caller's time
LOAD_S, WINDOW_S = 9, 6
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operate-a-server.md"
LIVE = 'charkha_predictions_total{role="live"}'


@pytest.fixture(scope="module")
def root(tmp_path_factory, with_tables):
    """A project in whose registry `prices` has a champion."""
    root = tmp_path_factory.mktemp("served")
    (root / "charkha.toml").write_text('[project]\nname = "prices"\n')
    (root / "package").mkdir()
    rows = pd.DataFrame({"area": np.arange(1.0, 41.0)})
    rows["price"] = 2 * rows["area"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of matplotlib, MLflow, SQLAlchemy
        model = LinearRegression().fit(rows[["area"]], rows["price"])
        wish = Wish(name="prices", target="price")
        build_package(model, test=rows, train=rows, wish=wish, folder=root / "package")
        project = with_tables(default_project(root))
        digest = open_artifacts(project).save(Dir(root / "package")).digest
        client = MlflowRegistry(project.tracking.uri)._client
        client.create_registered_model("prices")
        client.create_model_version("prices", "file:///x", tags={"charkha.package": digest})
        client.set_registered_model_alias("prices", "champion", "1")
    return root


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server(NamedTuple):
    url: str
    pid: int  # of the lead

    @property
    def workers(self):
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


@pytest.fixture(scope="module")
def server(root):
    """Return a server with two workers."""
    command = [sys.executable, "-m", "charkha", "serve", "--port", "0", "--workers", "2", "--json"]
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=log, text=True)
        with ended(process):
            told = process.stdout.readline()
            assert told, (root / "server.log").read_text()
            yield Server(json.loads(told)["url"], process.pid)
            process.stdout.close()


class Prometheus:
    """Asked in PromQL."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **parameters):
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]

    def ask(self, query, at=None):
        """Return {labels as text: value}."""
        told = self.get("query", query=query, **({} if at is None else {"time": at}))
        return {json.dumps(one["metric"]): float(one["value"][1]) for one in told["result"]}

    def number(self, query, at=None):
        [value] = self.ask(query, at).values()
        return value

    def wait(self, until, patience_s=30):
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                if until():
                    return
            time.sleep(0.1)
        raise AssertionError(f"not within {patience_s} s: {self.get('targets')}")

    def sees(self, query, value):
        self.wait(lambda: self.number(query) == value)


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """Return a Prometheus that reads the server each second."""
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": "charkha",
                "static_configs": [{"targets": [server.url.removeprefix("http://")]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(told))  # JSON is YAML
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with ended(process):
        running = Prometheus(f"http://127.0.0.1:{port}")
        with contextlib.suppress(AssertionError):
            running.wait(lambda: running.number("up") == 1)
            yield running
            return
        raise AssertionError((folder / "log").read_text())


@pytest.fixture(scope="module")
def loaded(server, prometheus):
    """Return how long each answer took in the last seconds of a load, and a moment of their end."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    requests = [
        post("/predict", json.dumps([{"area": n + m} for m in range(ROWS)]).encode())
        for n in range(4)
    ]
    outcome = load(
        (host, int(port)),
        requests,
        lambda number, status, body: status == 200 and b"predictions" in body,
        connections=1,
        seconds=LOAD_S,
    )
    at = time.time()
    assert (outcome.wrong, outcome.errors) == (0, 0), outcome.failures[:3]
    prometheus.sees(f"sum({LIVE})", ROWS * outcome.answers)  # every one, and each once
    return _of_the_window(outcome.latencies_s), at


def _of_the_window(latencies_s):
    """Over one connection the answers came one after the other, the last of them at the end."""
    since_end = np.cumsum(latencies_s[::-1])
    return np.array(latencies_s[::-1])[since_end <= WINDOW_S]


def test_the_page_passes_promtool(server, loaded):
    page = httpx.get(f"{server.url}/metrics").text
    told = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_prometheus_is_given_openmetrics(server, prometheus, loaded):
    kinds = prometheus.get("metadata")
    assert kinds["charkha_model"][0]["type"] == "info"
    assert kinds["charkha_prediction_duration_seconds"][0]["type"] == "histogram"


def test_rates_are_those_of_the_load(prometheus, loaded):
    latencies_s, at = loaded
    answers = prometheus.number(f'rate(charkha_requests_total{{status="200"}}[{WINDOW_S}s])', at)
    rows = prometheus.number(f"sum(rate({LIVE}[{WINDOW_S}s]))", at)
    assert answers == pytest.approx(len(latencies_s) / WINDOW_S, rel=0.2)
    assert rows == pytest.approx(ROWS * answers, rel=0.01)


def _bucket(seconds):
    return next(n for n, bound in enumerate((*DURATIONS_S, float("inf"))) if seconds <= bound)


def test_latencies_are_those_of_the_load(prometheus, loaded):
    latencies_s, at = loaded
    name = "charkha_prediction_duration_seconds"
    mean = f"sum(rate({name}_sum[{WINDOW_S}s])) / sum(rate({name}_count[{WINDOW_S}s]))"
    assert prometheus.number(mean, at) == pytest.approx(np.mean(latencies_s), rel=0.25)
    for share in (0.5, 0.9):
        buckets = f"sum by (le) (rate({name}_bucket[{WINDOW_S}s]))"
        told = prometheus.number(f"histogram_quantile({share}, {buckets})", at)
        print(
            share,
            told,
            np.quantile(latencies_s, share),
            prometheus.number(mean, at),
            np.mean(latencies_s),
            len(latencies_s),
        )
        assert abs(_bucket(told) - _bucket(np.quantile(latencies_s, share))) <= 1


def test_what_is_refused_is_counted_by_its_status(server, prometheus, loaded):
    for _ in range(3):
        assert httpx.post(f"{server.url}/predict", json={"area": "big"}).status_code == 422
    prometheus.sees('charkha_requests_total{status="422"}', 3)


def test_who_serves_what_is_shown(prometheus, loaded):
    about = '{model="prices",version="1",variant="champion",role="live",form="onnx"}'
    assert prometheus.number(f"charkha_model_info{about}") == 1
    assert prometheus.number('charkha_variant_share{variant="champion"}') == 1
    assert prometheus.number("charkha_workers") == 2
    assert prometheus.number("charkha_queue_depth") == 0


def test_records_are_counted_as_predictions_are(prometheus, loaded):
    rows = prometheus.number(f"sum({LIVE})")
    prometheus.sees("charkha_records_written_total", rows)
    assert prometheus.number("charkha_records_failing") == 0


def test_the_queries_of_the_page_are_answered(prometheus, loaded):
    queries = re.findall(r"^\| [^|`]+ \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(queries) == 5
    answered = [query for query in queries if prometheus.ask(query.replace("5m", "30s"))]
    assert answered == queries


def test_the_alerts_of_the_page_pass_promtool(prometheus, loaded, tmp_path):
    rules = re.search(r"```yaml\n(groups:.*?)```", PAGE.read_text(), re.DOTALL)[1]
    (tmp_path / "rules.yml").write_text(rules)
    told = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr
    for expression in re.findall(r"expr: (.*)", rules):
        prometheus.ask(expression)  # a metric that is not there would be answered too …
        names = re.findall(r"\bcharkha_\w+", expression)
        assert [name for name in names if name not in FAMILIES] == []  # … so its name is looked up


def test_no_counter_falls_when_a_worker_is_killed(server, prometheus, loaded):
    before = prometheus.number(f"sum({LIVE})")
    prometheus.sees("charkha_workers", 2)
    killed, other = server.workers
    os.kill(killed, signal.SIGKILL)
    prometheus.wait(lambda: len(server.workers) == 2 and killed not in server.workers)
    prometheus.sees("charkha_workers", 2)
    assert other in server.workers
    assert prometheus.number(f"sum({LIVE})") == before
    for name in ("charkha_predictions_total", "charkha_prediction_duration_seconds_count"):
        assert set(prometheus.ask(f"resets({name}[60s])").values()) == {0}
