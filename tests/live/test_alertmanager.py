"""Debian's Alertmanager takes Charkha's alerts, keeps them while they are sent, and routes them on."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from charkha.monitoring.alerting.alertmanager import AlertmanagerDestination
from charkha.monitoring.causes import Cause
from charkha.monitoring.telling import tell
from charkha.project import default_project

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = pytest.mark.skipif(
    BINARY is None, reason="Alertmanager is not installed: apt-get install prometheus-alertmanager"
)

DRIFT = Cause(
    key="drift/prices@3",
    title="Drift in area",
    text="area: median up 12 % (rank, p = 1e-09)",
    severity="warning",
    subject="prices@3",
    state=("input.area",),
)


class Webhook:
    """What Alertmanager routes to."""

    def __init__(self):
        self.posts = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                posts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def webhook():
    made = Webhook()
    yield made
    made.close()


@pytest.fixture(scope="module")
def alertmanager(webhook, tmp_path_factory):
    """Return the address of one that routes all to the webhook within a second."""
    folder = tmp_path_factory.mktemp("alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {
        "route": {
            "receiver": "hook",
            "group_by": ["alertname", "model", "version"],
            "group_wait": "0s",
            "group_interval": "1s",
        },
        "receivers": [{"name": "hook", "webhook_configs": [{"url": webhook.url}]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(told))  # JSON is YAML
    command = [
        BINARY,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait(lambda: httpx.get(f"{url}/-/ready").status_code == 200, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def wait(until, log=None, patience_s=30):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError, StopIteration):
            if until():
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text() if log else "it did not happen")


def held(url):
    """Return the alerts that Alertmanager has, by their cause."""
    return {a["labels"]["cause"]: a for a in httpx.get(f"{url}/api/v2/alerts").json()}


def test_an_alert_opens_is_routed_stays_and_ends(tmp_path, alertmanager, webhook):
    project = default_project(tmp_path)

    def look(*causes, at=0.0):
        there = [AlertmanagerDestination(alertmanager)]
        return tell(project, causes, scope="prices", now=began + at, destinations=there)

    began = time.time()
    [opened] = look(DRIFT)
    wait(lambda: DRIFT.key in held(alertmanager))
    kept = held(alertmanager)[DRIFT.key]
    assert kept["status"]["state"] == "active"
    assert kept["labels"] == {
        "alertname": "CharkhaDrift",
        "model": "prices",
        "version": "3",
        "severity": "warning",
        "cause": DRIFT.key,
    }
    assert kept["annotations"] == {
        "summary": DRIFT.title,
        "description": DRIFT.text,
        "alert": opened.id,
    }
    wait(lambda: webhook.posts)
    assert webhook.posts[0]["status"] == "firing"
    assert webhook.posts[0]["alerts"][0]["annotations"]["alert"] == opened.id

    until = kept["endsAt"]
    look(DRIFT, at=400)  # it would be forgotten after 900 s
    wait(lambda: held(alertmanager)[DRIFT.key]["endsAt"] > until)

    [resolved] = look(at=0.001)
    assert resolved.change == "resolved"
    wait(lambda: any(post["status"] == "resolved" for post in webhook.posts))
    assert DRIFT.key not in held(alertmanager)


def test_what_alertmanager_refuses_is_no_error_of_the_look(tmp_path, alertmanager, caplog):
    there = [AlertmanagerDestination(f"{alertmanager}/no/such/prefix")]
    cause = replace(DRIFT, key="drift/rents@1", subject="rents@1")
    [opened] = tell(default_project(tmp_path), [cause], scope="rents", destinations=there)
    assert opened.firing
    assert "refused it: 404" in caplog.text
    assert cause.key not in held(alertmanager)
