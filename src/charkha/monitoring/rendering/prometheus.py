"""What Prometheus and Alertmanager need to watch a model server: scraping, rules, and where to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charkha.monitoring.rendering.alerting import alerts
from charkha.monitoring.rendering.proving import proof

if TYPE_CHECKING:
    from charkha.monitoring.rendering.alert import Alert

JOB = "charkha"
_EVERY_S = 15
_BURNS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
Data = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Aims:
    """What the rules hold a server to."""

    project: str
    server: str = "127.0.0.1:8000"
    alertmanager: str = "127.0.0.1:9093"
    webhook: str | None = None  # where Alertmanager posts; None: alerts are seen on its page alone
    availability: float = 0.999  # part of the requests that have to be answered
    latency_s: float = 0.5  # that 99 of 100 answers may take
    windows_in_a_row: int = 2  # that have to drift
    smallest_share: float = 0.02  # of the rows, that matters
    least_rows: int = 200  # below which nothing is said


def files(aims: Aims) -> dict[str, Data]:
    """Return the files by their names: each is what YAML says."""
    found = alerts(
        availability=aims.availability,
        latency_s=aims.latency_s,
        windows_in_a_row=aims.windows_in_a_row,
        smallest_share=aims.smallest_share,
        least_rows=aims.least_rows,
    )
    return {
        "prometheus.yml": _scraping(aims),
        "recording.yml": {"groups": [{"name": "charkha-recording", "rules": recordings()}]},
        "alerts.yml": {"groups": _groups(aims, found)},
        "alerts_test.yml": proof(found, ("recording.yml", "alerts.yml")),
        "alertmanager.yml": _telling(aims),
    }


def recordings() -> list[Data]:
    """Return the rules that are computed once and asked for often."""
    rules: list[Data] = []

    def rule(name: str, expression: str) -> None:
        rules.append({"record": name, "expr": expression})

    for window in _BURNS:
        failed = f'sum by (job) (rate(charkha_requests_total{{status=~"5.."}}[{window}]))'
        all_ = f'sum by (job) (rate(charkha_requests_total{{status=~"2..|5.."}}[{window}]))'
        rule(f"job:charkha_request_errors:ratio_rate{window}", f"{failed}\n/\n{all_}")
    variant = "job, model, version, variant"
    live = 'role="live"'
    buckets = f"rate(charkha_prediction_duration_seconds_bucket{{{live}}}[5m])"
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        rule(
            f"variant:charkha_prediction_duration_seconds:{name}_5m",
            f"histogram_quantile({share}, sum by ({variant}, le) ({buckets}))",
        )
    values = "sum by (job, model, variant, column, is) (rate(charkha_input_values_total[1h]))"
    rows = f"sum by (job, model, variant) (rate(charkha_rows_examined_total{{{live}}}[1h]))"
    per_row = f"{values}\n/ on (job, model, variant) group_left ()\n{rows}"
    rule("column:charkha_input_values:share_1h", per_row)
    rule(
        "column:charkha_input_values:excess_1h",
        "column:charkha_input_values:share_1h\n"
        "- on (job, model, variant, column, is)\n"
        "max by (job, model, variant, column, is) (charkha_input_reference_share)",
    )
    bins = f"sum by ({variant}, le) (rate(charkha_prediction_value_bucket{{{live}}}[1h]))"
    rule("variant:charkha_prediction_value:median_1h", f"histogram_quantile(0.5, {bins})")
    return rules


def _groups(aims: Aims, found: tuple[Alert, ...]) -> list[Data]:
    """Return the alerts, a group for each thing that they watch."""
    groups: dict[str, list[Data]] = {}
    for alert in found:
        rule: Data = {"alert": alert.name, "expr": alert.expression}
        if alert.lasting:
            rule["for"] = alert.lasting
        rule["labels"] = {"severity": alert.severity, "project": aims.project}
        rule["annotations"] = {
            "summary": alert.summary,
            "description": alert.description,
            "action": alert.action,
        }
        groups.setdefault(alert.about, []).append(rule)
    return [{"name": f"charkha-{name}", "rules": rules} for name, rules in groups.items()]


def _scraping(aims: Aims) -> Data:
    return {
        "global": {"scrape_interval": f"{_EVERY_S}s", "evaluation_interval": f"{_EVERY_S}s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [aims.alertmanager]}]}]},
        "scrape_configs": [
            {
                "job_name": JOB,
                "static_configs": [{"targets": [aims.server], "labels": {"project": aims.project}}],
            }
        ],
    }


def _telling(aims: Aims) -> Data:
    receiver: Data = {"name": "team"}
    if aims.webhook is not None:
        receiver["webhook_configs"] = [{"url": aims.webhook, "send_resolved": True}]
    return {
        "route": {
            "receiver": "team",
            "group_by": ["alertname", "model", "version"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {"receiver": "team", "matchers": ['severity="info"'], "repeat_interval": "7d"}
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="CharkhaServerDown"'],
                "target_matchers": ['alertname=~"Charkha.*"', 'alertname!="CharkhaServerDown"'],
                "equal": ["job"],
            }
        ],
        "receivers": [receiver],
    }
