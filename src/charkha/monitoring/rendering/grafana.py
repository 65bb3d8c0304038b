"""Dashboards for Grafana, three for each project: the service, the quality of the model, drift."""

from __future__ import annotations

import re

from charkha.monitoring.rendering.drift_board import drift
from charkha.monitoring.rendering.panels import Data, Row, dashboard
from charkha.monitoring.rendering.quality_board import quality
from charkha.monitoring.rendering.service_board import machine, service

FOLDER = "/etc/grafana/charkha"  # where Grafana finds the dashboards: mount or copy them there


def provisioning(url: str) -> dict[str, Data]:
    """Return Grafana's own settings by file name: where Prometheus answers, where dashboards lie."""
    return {
        "provisioning/datasources/charkha.yml": {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Prometheus",
                    "uid": "charkha-prometheus",
                    "type": "prometheus",
                    "access": "proxy",
                    "url": url,
                    "isDefault": True,
                    "jsonData": {"timeInterval": "15s"},
                }
            ],
        },
        "provisioning/dashboards/charkha.yml": {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "charkha",
                    "folder": "Charkha",
                    "type": "file",
                    "allowUiUpdates": False,
                    "options": {"path": FOLDER},
                }
            ],
        },
    }


def dashboards(
    project: str, model: str | None, *, smallest_share: float = 0.02, latency_s: float = 0.5
) -> dict[str, Data]:
    """Return the dashboards by file name.

    Args:
        project: its name.
        model: that is shown at first.
        smallest_share: of the rows, that matters; drawn as a line.
        latency_s: that 99 of 100 answers may take; drawn as a line.
    """
    prefix = re.sub(r"[^a-z0-9-]+", "-", project.lower())[:24].strip("-")  # a uid has 40 at most

    def make(name: str, title: str, description: str, rows: tuple[Row, ...]) -> Data:
        return dashboard(
            uid=f"charkha-{prefix}-{name}",
            title=f"{project}: {title}",
            description=description,
            rows=rows,
            project=project,
            model=model,
        )

    return {
        "dashboards/service.json": make(
            "service",
            "service",
            "Whether requests are answered, how fast, by whom, and whether they are remembered.",
            (*service(latency_s), *machine()),
        ),
        "dashboards/quality.json": make(
            "quality",
            "model quality",
            "Whether predictions are right: on ground truth, and before it comes; releases; the loop.",
            quality(),
        ),
        "dashboards/drift.json": make(
            "drift",
            "drift",
            "Whether the model is asked what it was trained on: live, and as judged by tests.",
            drift(smallest_share),
        ),
    }
