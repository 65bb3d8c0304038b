"""Every destination passes the contract, the ones over HTTP against a server that is real."""

import json
import logging
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from charkha.errors import BackendError, Unavailable, UserError
from charkha.monitoring.alerting import open_destinations
from charkha.monitoring.alerting.alertmanager import AlertmanagerDestination
from charkha.monitoring.alerting.contract import ALERT, NOW, DestinationContract
from charkha.monitoring.alerting.log import LogDestination
from charkha.monitoring.alerting.memory import MemoryDestination
from charkha.monitoring.alerting.webhook import WebhookDestination
from charkha.project import open_project


class Receiver:
    """A server on loopback that keeps what is posted; answers with `code`."""

    def __init__(self):
        self.posts, self.code, self.answer = [], 200, b"ok"
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.posts.append((self.path, json.loads(body)))
                self.send_response(receiver.code)
                self.send_header("content-length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


class TestLog(DestinationContract):
    @pytest.fixture
    def destination(self):
        return LogDestination()

    @pytest.fixture
    def arrived(self, caplog):
        caplog.set_level(logging.INFO, "charkha.alerts")
        return lambda: [record.getMessage() for record in caplog.records]


class TestMemory(DestinationContract):
    @pytest.fixture
    def destination(self):
        return MemoryDestination()

    @pytest.fixture
    def arrived(self, destination):
        return lambda: [str(alert) for alert in destination.alerts]


class TestWebhook(DestinationContract):
    @pytest.fixture
    def destination(self, receiver):
        return WebhookDestination(lambda: f"{receiver.url}/services/T0/B0")

    @pytest.fixture
    def arrived(self, receiver):
        return lambda: [json.dumps(body, ensure_ascii=False) for _, body in receiver.posts]


class TestAlertmanager(DestinationContract):
    @pytest.fixture
    def destination(self, receiver):
        return AlertmanagerDestination(f"{receiver.url}/")

    @pytest.fixture
    def arrived(self, receiver):
        return lambda: [json.dumps(body, ensure_ascii=False) for _, body in receiver.posts]


def test_slack_gets_text_and_blocks_without_mentions_of_its_own(receiver):
    hostile = replace(ALERT, because="a column called <!channel> & more")
    WebhookDestination(lambda: receiver.url).send(hostile, until=NOW)
    [(_, body)] = receiver.posts
    assert body["text"] == "Warning: Drift in a &lt;b&gt; &amp; c (prices@3, al-abcdefg)"
    section, context = body["blocks"]
    assert (section["type"], section["text"]["type"]) == ("section", "mrkdwn")
    assert "<!channel>" not in json.dumps(body)
    assert "charkha why al-abcdefg" in context["elements"][0]["text"]


def test_a_section_is_no_longer_than_slack_takes(receiver):
    WebhookDestination(lambda: receiver.url).send(replace(ALERT, because="x" * 9_000), until=NOW)
    assert len(receiver.posts[0][1]["blocks"][0]["text"]["text"]) <= 3_000


def test_alertmanager_gets_labels_and_an_end_that_it_can_outlive(receiver):
    AlertmanagerDestination(receiver.url).send(ALERT, until=NOW + 900)
    [(path, [posted])] = receiver.posts
    assert path == "/api/v2/alerts"
    assert posted["labels"] == {
        "alertname": "CharkhaDrift",
        "model": "prices",
        "version": "3",
        "severity": "warning",
        "cause": "drift/prices@3",
    }
    assert posted["startsAt"] == "2026-09-21T14:13:20+00:00"
    assert posted["endsAt"] == "2026-09-21T14:28:20+00:00"


@pytest.mark.parametrize(
    ("code", "error"), [(500, Unavailable), (429, Unavailable), (404, BackendError)]
)
def test_a_refusal_says_why_and_never_the_address(receiver, code, error):
    receiver.code, receiver.answer = code, b"no_service"
    with pytest.raises(error, match="no_service") as raised:
        WebhookDestination(lambda: f"{receiver.url}/secret").send(ALERT, until=NOW)
    assert "secret" not in str(raised.value)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "ftp://secret",
        "http://127.0.0.1:1/secret",
        "http://[::1/secret",
        "http://a..b/secret",
    ],
)
def test_an_address_that_leads_nowhere_is_said_without_it(url):
    with pytest.raises((UserError, Unavailable), match=r"the webhook of \[alerts\]") as raised:
        WebhookDestination(lambda: url).send(ALERT, until=NOW)
    assert "secret" not in str(raised.value)


def test_the_settings_say_where_alerts_go(tmp_path, monkeypatch, receiver):
    (tmp_path / "charkha.toml").write_text("")
    assert [d.name for d in open_destinations(open_project(tmp_path))] == ["log"]
    (tmp_path / "charkha.toml").write_text(
        '[alerts]\nwebhook = "env:HOOK"\nalertmanager = "http://127.0.0.1:1"\n'
    )
    log, webhook, alertmanager = open_destinations(open_project(tmp_path))
    assert (log.name, webhook.name, alertmanager.name) == ("log", "webhook", "alertmanager")
    with pytest.raises(UserError, match=r"charkha.toml:2: .*HOOK is not set"):
        webhook.send(ALERT, until=NOW)
    monkeypatch.setenv("HOOK", receiver.url)
    webhook.send(ALERT, until=NOW)
    assert len(receiver.posts) == 1


def test_an_alertmanager_that_is_no_address_is_refused(tmp_path):
    (tmp_path / "charkha.toml").write_text('[alerts]\nalertmanager = "127.0.0.1:9093"\n')
    with pytest.raises(UserError, match=r"charkha.toml:2: "):
        open_project(tmp_path)
