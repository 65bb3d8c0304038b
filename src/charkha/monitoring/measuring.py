"""A version's records held against its held-out figures, and the verdicts kept in the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.monitoring.performance import Performance
    from charkha.project import Project

KIND = "performance"  # of the ledger's decisions


def measure_performance(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    window: str | None = None,
) -> Performance:
    """Measure one version on the records whose ground truth has come, and keep the verdicts.

    Measuring the same records with the same ground truths again keeps nothing twice.

    Args:
        project: whose registry, records, ledger, `[[gate]]` and `[monitoring]` are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`.
        until: the same.
        window: size of one window, `1000` rows or `6h`; that of `[monitoring]` without it.

    Raises:
        UserError: there is no such version, no record.
        BackendError: the registry, the blobs, the records or the ledger refuse.
    """
    raise NotImplementedError(project, reference, since, until, window)
