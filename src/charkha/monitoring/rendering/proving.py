"""The proof of the alerts, for `promtool test rules`: each fires on its series, and rests on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charkha.monitoring.rendering.alert import Alert

_EVALUATED = "5m"  # each minute would take promtool a minute of a processor, and show nothing more
Data = dict[str, Any]


def proof(alerts: Sequence[Alert], rule_files: Sequence[str]) -> Data:
    """Return what promtool reads: two tests for each alert."""
    return {
        "rule_files": list(rule_files),
        "evaluation_interval": _EVALUATED,
        "tests": [
            test
            for alert in alerts
            for test in (
                _test(alert, f"{alert.name} fires", alert.fires, 1),
                _test(alert, f"{alert.name} rests", alert.rests, 0),
            )
        ],
    }


def _test(alert: Alert, name: str, series: dict[str, str], firing: int) -> Data:
    asked = f'count(ALERTS{{alertname="{alert.name}",alertstate="firing"}})'
    expected = [{"labels": "{}", "value": firing}] if firing else []
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": asked, "eval_time": alert.after, "exp_samples": expected}],
    }
