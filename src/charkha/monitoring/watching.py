"""A look at a version: drift and performance as they are now, and the causes for alerts in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.monitoring.causes import Cause
    from charkha.monitoring.checking import Checked
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at a version found."""

    version: str  # "house-prices@3"
    checked: Checked | None  # None where there is no record yet
    performance: object | None  # charkha.monitoring.performance.Performance; None without records
    causes: tuple[Cause, ...]
    unknown: tuple[str, ...]  # keys of causes of which this look cannot tell: too few rows
    notes: tuple[str, ...]  # what could not be looked at, and why


def look(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    window: str | None = None,
) -> Looked:
    """Look at a version now. Having no record yet, or too few, is a finding and no error.

    Args:
        project: whose registry, records, ledger and settings are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`; without it far enough back for an alarm.
        window: size of one window; that of `[monitoring]` without it.

    Raises:
        UserError: there is no such version or moment.
        Unavailable: the registry, the records or the ledger does not answer; look again later.
    """
    raise NotImplementedError
