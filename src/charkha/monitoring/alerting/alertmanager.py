"""Prometheus' Alertmanager, over its API v2, which groups, silences and routes what it is sent.

It takes an alert for resolved at its `endsAt`; one that fires is therefore sent again before. A
severity is a label, so what becomes critical is another alert there; the first one ends by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from charkha.monitoring.alerting.posting import post

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.monitoring.alerts import Alert


class AlertmanagerDestination:
    """An Alertmanager.

    Args:
        url: its address, `http://127.0.0.1:9093`, with its prefix where it has one.
    """

    name = "alertmanager"
    forgets = True

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def send(self, alert: Alert, *, until: float) -> None:
        post(
            f"{self._url}/api/v2/alerts",
            [as_posted(alert, until)],
            where=f"the Alertmanager at {self._url}",
            fix='[alerts] alertmanager = "http://HOST:9093" in charkha.toml',
        )


def as_posted(alert: Alert, until: float) -> dict[str, object]:
    """Return an alert as the API has it."""
    cause = alert.cause
    model, _, version = cause.subject.partition("@")
    return {
        "labels": {
            "alertname": f"Charkha{cause.kind.capitalize()}",
            "model": model,
            "version": version,
            "severity": cause.severity,
            "cause": cause.key,
        },
        "annotations": {"summary": cause.title, "description": cause.text, "alert": alert.id},
        "startsAt": _moment(alert.opened_at),
        "endsAt": _moment(until if alert.firing else alert.changed_at),
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


if TYPE_CHECKING:
    _destination: Destination = AlertmanagerDestination("http://127.0.0.1:9093")
