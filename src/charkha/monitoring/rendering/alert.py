"""An alert: what it asks Prometheus, what it tells a person, and the series that make it fire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["critical", "warning", "info"]
About = Literal["service", "records", "versions", "inputs", "verdicts", "releases"]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One rule. `fires` and `rests` are series in promtool's notation, a minute between two values."""

    name: str
    about: About
    severity: Severity
    expression: str
    lasting: str = ""  # how long it has to be so; "": at once
    summary: str  # one line, for a phone
    description: str
    action: str  # what to type
    fires: dict[str, str] = field(default_factory=dict)
    rests: dict[str, str] = field(default_factory=dict)
    after: str = "70m"  # when it is looked whether it fires
