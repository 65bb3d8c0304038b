"""The alerts of a project, all together."""

from __future__ import annotations

from charkha.monitoring.rendering.alert import Alert
from charkha.monitoring.rendering.model_alerts import inputs, releases, verdicts, versions
from charkha.monitoring.rendering.service_alerts import records, service


def alerts(
    *,
    availability: float,
    latency_s: float,
    windows_in_a_row: int,
    smallest_share: float,
    least_rows: int,
) -> tuple[Alert, ...]:
    """Return all alerts.

    Args:
        availability: part of the requests that have to be answered, such as 0.999.
        latency_s: that 99 of 100 answers may take.
        windows_in_a_row: that have to drift.
        smallest_share: of the rows, that matters.
        least_rows: of an hour, below which nothing is said of its inputs.
    """
    return (
        *service(availability, latency_s),
        *records(),
        *versions(),
        *inputs(smallest_share, least_rows),
        *verdicts(windows_in_a_row),
        *releases(),
    )
