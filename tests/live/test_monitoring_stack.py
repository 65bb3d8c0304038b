"""Prometheus, Alertmanager and model servers together: what is rendered is what they take and tell."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.ledger import Decision, ledger_url, open_ledger
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.mlflow import MlflowRegistry
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import default_project
from charkha.release.kept import Release
from charkha.release.plan import State, make_plan
from charkha.release.rules import Rules
from charkha.states import States

ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        ALERTMANAGER is None or any(shutil.which(b) is None for b in ("prometheus", "promtool")),
        reason="not installed: apt-get install prometheus prometheus-alertmanager",
    ),
]
WINDOW = 300  # rows
MODELS = ("prices", "sold")


def houses(rows, seed, grown=1.0):
    chance = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "area": chance.normal(100, 20, rows) * grown,
            "place": chance.choice(np.array(["North", "South"], dtype=object), rows),
        }
    )
    quick = np.where(made["area"] + chance.normal(0, 20, rows) > 100, "slow", "quick")
    return made.assign(price=made["area"] * 900, sold=quick)


def build(folder, name, target, model):
    folder.mkdir()
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["place"]), remainder="passthrough"
    )
    train = houses(2_000, 0)[["area", "place", target]]
    fitted = make_pipeline(encode, model).fit(train[["area", "place"]], train[target])
    wish = Wish(name=name, target=target, learning_curve=False)
    test = houses(800, 1)[["area", "place", target]]
    build_package(fitted, test=test, train=train, wish=wish, folder=folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory, with_tables):
    """A project with two models: `prices` has three versions, of which the last one is broken."""
    root = tmp_path_factory.mktemp("watched")
    (root / "charkha.toml").write_text(
        '[project]\nname = "houses"\n[model]\nname = "prices"\n'
        "[serving]\nfollow_s = 0.3\nledger_s = 0.5\ndrain_s = 0\n"
    )
    project = with_tables(default_project(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of matplotlib, MLflow, SQLAlchemy
        build(root / "prices", "prices", "price", LinearRegression())
        build(root / "sold", "sold", "sold", LogisticRegression())
        client = MlflowRegistry(project.tracking.uri)._client
        for name in MODELS:
            client.create_registered_model(name)
            digest = open_artifacts(project).save(Dir(root / name)).digest
            for _ in range(2):
                tags = {"charkha.package": digest}
                client.create_model_version(name, "file:///x", tags=tags)
            client.set_registered_model_alias(name, "champion", "1")
        client.create_model_version("prices", "file:///x", tags={"charkha.package": "0" * 64})
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


def charkha(root, *arguments):
    command = [sys.executable, "-m", "charkha", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def wait(until, what, patience_s=60):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if until():
                return
        time.sleep(0.2)
    raise AssertionError(f"not within {patience_s} s: {what}")


@pytest.fixture(scope="module")
def servers(root):
    """Return the addresses of the servers, by their models."""
    with contextlib.ExitStack() as open_:
        addresses = {}
        for model in MODELS:
            command = [sys.executable, "-m", "charkha", "serve", model, "--port", "0", "--json"]
            log = open_.enter_context((root / f"{model}.log").open("w"))
            process = subprocess.Popen(
                [*command, "--state", str(root / f"serving-{model}")],
                cwd=root,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            open_.enter_context(ended(process))
            open_.callback(process.stdout.close)
            told = process.stdout.readline()
            assert told, (root / f"{model}.log").read_text()
            addresses[model] = json.loads(told)["url"]
        yield addresses


@pytest.fixture(scope="module")
def posted():
    """Return what Alertmanager has posted, and where to."""
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield got, f"http://127.0.0.1:{server.server_port}/alerts"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def rendered(root, servers, posted):
    """Return the folder of the rules, and the ports of Alertmanager and Prometheus."""
    alertmanager, prometheus = free_port(), free_port()
    charkha(
        root,
        "render",
        "prometheus",
        *("--server", servers["prices"].removeprefix("http://")),
        *("--alertmanager", f"127.0.0.1:{alertmanager}"),
        *("--webhook", posted[1]),
    )
    charkha(root, "render", "grafana", "--prometheus", f"http://127.0.0.1:{prometheus}")
    return root / "monitoring" / "prometheus", alertmanager, prometheus


class Prometheus:
    """Asked in PromQL."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1/query"
        self._ready = f"http://127.0.0.1:{port}/-/ready"

    def is_ready(self):
        """Return whether it has read its database; until then it answers every query with 503."""
        return httpx.get(self._ready).status_code == 200

    def ask(self, query):
        """Return the values of all series."""
        answer = httpx.get(self._url, params={"query": query})
        assert answer.status_code == 200, (query, answer.text)
        return [float(one["value"][1]) for one in answer.json()["data"]["result"]]

    def sees(self, query, value, patience_s=60):
        wait(lambda: self.ask(query) == [value], f"{query} is {value}", patience_s)


def hastened(folder, to, servers):
    """Write what is rendered once more, for a test that has no minutes to wait."""
    shutil.copytree(folder, to)
    told = yaml.safe_load((to / "prometheus.yml").read_text())
    told["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    [job] = told["scrape_configs"]
    job["static_configs"][0]["targets"].append(servers["sold"].removeprefix("http://"))
    (to / "prometheus.yml").write_text(yaml.safe_dump(told))
    alerts = yaml.safe_load((to / "alerts.yml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            rule["for"] = "0s"
    (to / "alerts.yml").write_text(yaml.safe_dump(alerts))
    told = yaml.safe_load((to / "alertmanager.yml").read_text())
    told["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    (to / "alertmanager.yml").write_text(yaml.safe_dump(told))


@pytest.fixture(scope="module")
def prometheus(rendered, servers, tmp_path_factory):
    folder, alertmanager_port, port = rendered
    running = tmp_path_factory.mktemp("stack")
    hastened(folder, running / "rules", servers)
    commands = (
        [
            ALERTMANAGER,
            f"--config.file={running / 'rules' / 'alertmanager.yml'}",
            f"--storage.path={running / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
        ],
        [
            "prometheus",
            f"--config.file={running / 'rules' / 'prometheus.yml'}",
            f"--storage.tsdb.path={running / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    )
    with contextlib.ExitStack() as open_:
        for command in commands:
            log = open_.enter_context((running / "log").open("a"))
            open_.enter_context(ended(subprocess.Popen(command, stdout=log, stderr=log)))
        asked = Prometheus(port)
        wait(asked.is_ready, (running / "log").read_text)
        wait(lambda: asked.ask("up") == [1, 1], (running / "log").read_text)
        yield asked


def send(url, rows):
    """Ask for rows one by one, as callers do; return the ids of the answers."""
    ids = []
    with httpx.Client() as client:
        for row in rows[["area", "place"]].to_dict("records"):
            answer = client.post(f"{url}/predict", json=row)
            assert answer.status_code == 200, answer.text
            ids.append(answer.json()["id"])
    return ids


@pytest.fixture(scope="module")
def traffic(root, servers, prometheus, posted):
    """Send traffic as in training, errors, ground truths; swap versions, one of them broken.

    Returns whether that is drift, and the names of the alerts that were posted.
    """
    rows = houses(WINDOW, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowRegistry(default_project(root).tracking.uri)._client

    def move(version):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.set_registered_model_alias("prices", "champion", version)

    move("2")
    prometheus.sees('max(charkha_model_info{model="prices",role="live"}) by (version)', 1)
    prometheus.sees('sum(charkha_swaps_total{model="prices"})', 1)
    move("3")
    wait(
        lambda: (
            prometheus.ask('sum(charkha_swap_failures_total{model="prices"})')[0] >= 1
            or "not-swapped" in (root / "prices.log").read_text()
        ),
        "the broken version is refused",
    )
    move("2")
    for model in MODELS:
        ids = send(servers[model], rows)
        for _ in range(3):
            wrong = httpx.post(f"{servers[model]}/predict", json={"area": "big"})
            assert wrong.status_code == 422
        truth = rows["price" if model == "prices" else "sold"].tolist()
        told = [{"id": id, "ground_truth": t} for id, t in zip(ids[:20], truth[:20], strict=True)]
        assert httpx.post(f"{servers[model]}/feedback", json=told).json() == {"taken": 20}
    prometheus.sees("sum(charkha_feedback_total)", 40)
    looked_at = 'charkha_rows_examined_total{role="live"}'
    wait(lambda: min(prometheus.ask(looked_at)) >= WINDOW / 2, "rows are looked at")
    charkha(root, "monitor", "check", "prices@2", "--since", "1h")
    drift = 'charkha_drift{model="prices",version="2"}'
    wait(lambda: prometheus.ask(drift), "the verdict is shown")
    return prometheus.ask(drift), named(posted)


def named(posted):
    return {alert["labels"]["alertname"] for post in posted[0] for alert in post["alerts"]}


@pytest.fixture(scope="module")
def told(root):
    """Keep what other rooms decide: performance, alerts, a turn of the loop, a release."""
    project = default_project(root)
    ledger, states = open_ledger(project), States(ledger_url(project))
    now = time.time() - 60
    metric = {"value": 14.0, "low": 12.0, "high": 16.0, "held_out": 10.0, "p": 0.001}
    estimate = {"value": 15.0, "low": 12.0, "high": 18.0}
    turn = {"turn": "t1", "trigger": "drift", "phase": "ended", "outcome": "promoted"}
    windows = [
        {
            "outcome": "lower",
            "lower": ["rmse"],
            "metrics": {"rmse": metric},
            "estimates": {"rmse": estimate},
            "labelled": 400,
            "since": f"2026-11-24T0{hour}:00:00+00:00",
            "until": f"2026-11-24T0{hour}:59:00+00:00",
        }
        for hour in (1, 2)
    ]
    alert = {"alert": "a1", "change": "opened", "cause": "x", "severity": "critical"}
    for at, (kind, subject, numbers) in enumerate(
        (
            *(("performance", "prices@2", window) for window in windows),
            ("alert", "prices@2", alert),
            ("loop", "prices", turn),
        )
    ):
        ledger.record(
            Decision(
                at=now + at, kind=kind, subject=subject, because="", numbers=numbers, who="test"
            )
        )
    release = Release(
        id="r1", model="prices", baseline=1, candidate=2, plan=make_plan("canary"), rules=Rules(),
        loss="absolute", home="champion", began_at=now, by="test", state=State(stage=1),
        looked_at=now, decided_at=now,
    )  # fmt: skip
    assert states.write("release", "prices", release.as_json(), after=0)
    states.close()
    ledger.close()


def test_promtool_takes_what_is_rendered(rendered):
    folder = rendered[0]
    for command in (
        ["promtool", "check", "rules", "recording.yml", "alerts.yml"],
        ["promtool", "check", "config", "prometheus.yml"],
        ["promtool", "test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
def test_amtool_takes_what_is_rendered(rendered):
    command = ["amtool", "check-config", "alertmanager.yml"]
    done = subprocess.run(command, cwd=rendered[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_of_every_panel_is_answered_with_series(root, prometheus, traffic, told):
    prometheus.sees('charkha_performance_worse{model="prices"}', 1)
    time.sleep(3)  # a rate takes two scrapes
    dumb, asked = [], 0
    for path in sorted((root / "monitoring" / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        expressions = [
            (panel["title"], target["expr"])
            for panel in board["panels"]
            for target in panel.get("targets", ())
        ]
        expressions.append(("annotation", board["annotations"]["list"][0]["expr"]))
        for title, expression in expressions:
            query = expression.replace("$__rate_interval", "5m").replace("[1m]", "[10m]")
            asked += 1
            if not any(prometheus.ask(query.replace("$model", model)) for model in MODELS):
                dumb.append((path.stem, title, expression))
    assert dumb == []
    assert asked > 60


def test_recorded_series_are_there(rendered, prometheus, traffic):
    rules = yaml.safe_load((rendered[0] / "recording.yml").read_text())["groups"][0]["rules"]
    assert [rule["record"] for rule in rules if not prometheus.ask(rule["record"])] == []


def test_traffic_as_in_training_is_no_drift_and_nobody_is_told(traffic):
    drift, told = traffic
    assert drift == [0]
    assert told.isdisjoint({"CharkhaDrift", "CharkhaInputsBroken", "CharkhaServerDown"})


def test_a_shifted_column_reaches_the_webhook(root, servers, prometheus, traffic, told, posted):
    for seed in (6, 7):
        send(servers["prices"], houses(WINDOW, seed, grown=1.4))
    window = str(WINDOW)
    charkha(root, "monitor", "check", "prices@2", "--since", "1h", "--window", window)
    prometheus.sees('charkha_drift{model="prices",version="2"}', 1)
    prometheus.sees('charkha_drift_windows_in_a_row{model="prices",version="2"}', 2)
    prometheus.sees('charkha_drift_column{model="prices",version="2",column="input.area"}', 1)
    wait(lambda: "CharkhaDrift" in named(posted), "the drift alert is posted")
    alerts = [alert for post in posted[0] for alert in post["alerts"]]
    alert = next(a for a in alerts if a["labels"]["alertname"] == "CharkhaDrift")
    labels = alert["labels"]
    assert (labels["model"], labels["version"], labels["project"]) == ("prices", "2", "houses")
    assert "charkha monitor check prices@2" in alert["annotations"]["action"]
    wait(lambda: "CharkhaPerformanceWorse" in named(posted), "the other alert is posted")


def test_inputs_that_moved_are_seen_without_any_check(root, servers, prometheus, traffic):
    excess = 'column:charkha_input_values:excess_1h{model="sold",column="area",is="above_median"}'
    prometheus.sees('sum(charkha_input_values_total{model="sold",is="new_category"})', 0)
    send(servers["sold"], houses(WINDOW, 8, grown=1.4).assign(place="West"))
    wait(lambda: prometheus.ask(excess)[0] > 0.15, "the column is seen to have moved")
    new = excess.replace('"area"', '"place"').replace("above_median", "new_category")
    wait(lambda: prometheus.ask(new)[0] > 0.2, "the new label is seen")


def test_no_label_of_a_series_is_an_input(servers, traffic):
    page = httpx.get(f"{servers['prices']}/metrics").text
    columns = set(re.findall(r'column="([^"]*)"', page))
    assert columns <= {"area", "place", "input.area", "input.place", "prediction", "ground_truth"}
    assert "North" not in page
    assert "West" not in httpx.get(f"{servers['sold']}/metrics").text
