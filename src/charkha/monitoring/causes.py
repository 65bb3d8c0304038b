"""Causes: what somebody should be told of, made from what was found out, without doing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["warning", "critical"]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that is the case now and that a person should know.

    There is one alert for each `key`. It is told again when its `state` has a member that was not
    told yet, or when it becomes critical; not when a member goes.
    """

    key: str  # "drift/house-prices@3": what it is, and of what; also quality/, performance/, …
    title: str  # "Drift in area and place"
    text: str  # the reason with its numbers, one sentence or several
    severity: Severity
    subject: str  # "house-prices@3"
    state: tuple[str, ...] = ()  # what makes it another: of drift the columns, sorted
    numbers: Mapping[str, object] = field(default_factory=dict)  # what JSON can hold

    @property
    def kind(self) -> str:
        """What the cause is: `drift`."""
        return self.key.partition("/")[0]
