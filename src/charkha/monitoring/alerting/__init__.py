"""Who is told of an alert: the port, its adapters, and those that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.monitoring.alerting.alertmanager import AlertmanagerDestination
from charkha.monitoring.alerting.log import LogDestination
from charkha.monitoring.alerting.webhook import WebhookDestination
from charkha.project import read_secret

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.project import Project


def open_destinations(project: Project) -> tuple[Destination, ...]:
    """Return where the alerts of a project go: the log, and what `[alerts]` names."""
    settings = project.alerts
    found: list[Destination] = [LogDestination()]
    if settings.webhook is not None:
        found.append(WebhookDestination(lambda: read_secret(project, "alerts", "webhook") or ""))
    if settings.alertmanager is not None:
        found.append(AlertmanagerDestination(settings.alertmanager))
    return tuple(found)
