"""A webhook that takes Slack's messages: Slack itself, Mattermost, Rocket.Chat, a script.

Slack, "Sending messages using incoming webhooks" and "Reference: blocks": `text` is what
notifications show, `blocks` what the channel does; a section holds 3,000 characters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from charkha.monitoring.alerting.posting import post

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.monitoring.alerts import Alert

_LONGEST = 2900  # characters of a section
_FIX = '[alerts] webhook = "env:NAME" in charkha.toml, and the address in NAME'


class WebhookDestination:
    """A webhook.

    Args:
        read: returns its address, which is a secret: whoever has it can write to the channel. Asked
            at each message, so that a new one is used without a start.
    """

    name = "webhook"
    forgets = False

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def send(self, alert: Alert, *, until: float) -> None:
        post(self._read(), message(alert), where="the webhook of [alerts]", fix=_FIX)


def message(alert: Alert) -> dict[str, object]:
    """Return an alert as Slack's JSON."""
    cause = alert.cause
    head = f"{_state(alert)}: {cause.title}"
    text = alert.because if alert.firing else "Its cause is gone."
    about = f"{cause.subject} · {alert.id} · `charkha why {alert.id}`"
    blocks = [
        {"type": "section", "text": _marked(f"*{_escaped(head)}*\n{_escaped(text)}")},
        {"type": "context", "elements": [_marked(_escaped(about))]},
    ]
    return {"text": _escaped(f"{head} ({cause.subject}, {alert.id})"), "blocks": blocks}


def _state(alert: Alert) -> str:
    if not alert.firing:
        return "Resolved"
    again = ", changed" if alert.change == "changed" else ""
    return f"{alert.cause.severity.capitalize()}{again}"


def _marked(text: str) -> dict[str, str]:
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return {"type": "mrkdwn", "text": cut}


def _escaped(text: str) -> str:
    """Return a text without what Slack takes for links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


if TYPE_CHECKING:
    _destination: Destination = WebhookDestination(str)
