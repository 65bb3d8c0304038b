"""Panels of a Grafana dashboard as plain data, laid out in rows of 24 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Data = dict[str, Any]
Shape = Literal["timeseries", "stat", "table", "bargauge", "state-timeline"]
# The version of Grafana whose JSON this is, and of its schema: a newer Grafana brings it up to its own.
PLUGIN_VERSION, SCHEMA_VERSION = "10.0.0", 38
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHT = {"stat": 4, "timeseries": 8, "table": 8, "bargauge": 8, "state-timeline": 6}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One expression of a panel, and how its series are called."""

    expression: str
    legend: str = "__auto"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: what it asks, and what a person has to know to read it."""

    title: str
    description: str
    asked: tuple[Asked, ...]
    unit: str  # as Grafana names it: s, reqps, percentunit, short, bytes, dateTimeFromNow
    shape: Shape = "timeseries"
    width: int = 8  # of 24
    thresholds: tuple[tuple[str, float | None], ...] = (
        ("green", None),
    )  # colour, from which value
    words: tuple[tuple[float, str, str], ...] = ()  # value, what is shown in its place, colour
    most: float | None = None
    stacked: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """A heading, and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


def stat(title: str, description: str, expression: str, **more: Any) -> Panel:
    """Return a panel of one number; `more` is what a Panel is made of."""
    return Panel(
        title=title,
        description=description,
        asked=(ask(expression),),
        unit=more.pop("unit", "none"),
        shape="stat",
        width=4,
        **more,
    )


def ask(expression: str, legend: str = "__auto") -> Asked:
    """Return an expression with the name of its series."""
    return Asked(expression=expression, legend=legend)


def dashboard(
    *, uid: str, title: str, description: str, rows: Sequence[Row], project: str, model: str | None
) -> Data:
    """Return a dashboard as Grafana takes it.

    Args:
        uid: by which others link to it.
        title: of the page.
        description: of the page.
        rows: from top to bottom.
        project: is a tag.
        model: is chosen at first; any without it.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["charkha", project],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(model)},
        "annotations": {"list": [_swaps()]},
        "links": [
            {
                "title": "Charkha",
                "type": "dashboards",
                "tags": ["charkha", project],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": list(_laid_out(rows)),
    }


def _variables(model: str | None) -> list[Data]:
    chosen = {} if model is None else {"text": model, "value": model, "selected": True}
    query = "label_values(charkha_model_info, model)"
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "model",
            "label": "Model",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": "model"},
            "definition": query,
            "refresh": 2,  # as the time range changes
            "sort": 1,
            "current": chosen,
        },
    ]


def _swaps() -> Data:
    """Return what draws a line where another version was put in place."""
    return {
        "name": "Swaps",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": 'sum by (model) (increase(charkha_swaps_total{model="$model"}[1m])) > 0',
        "titleFormat": "another version of {{model}}",
    }


def _laid_out(rows: Sequence[Row]) -> Iterable[Data]:
    number, y = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        y += 1
        x = tallest = 0
        for panel in row.panels:
            number += 1
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            height = _HEIGHT[panel.shape]
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> Data:
    now = panel.shape in ("stat", "table", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + place_),
            "datasource": _SOURCE,
            "expr": one.expression,
            "legendFormat": one.legend,
            "instant": now,
            "range": not now,
            **({"format": "table"} if panel.shape == "table" else {}),
        }
        for place_, one in enumerate(panel.asked)
    ]
    return {
        "id": number,
        "type": panel.shape,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "pluginVersion": PLUGIN_VERSION,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.shape],
        **({"transformations": _JOINED} if panel.shape == "table" else {}),
    }


def _defaults(panel: Panel) -> Data:
    defaults: Data = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": colour, "value": value} for colour, value in panel.thresholds],
        },
        "mappings": [
            {
                "type": "value",
                "options": {f"{value:g}": {"text": text, "color": colour, "index": index}},
            }
            for index, (value, text, colour) in enumerate(panel.words)
        ],
        "color": {"mode": "thresholds" if len(panel.thresholds) > 1 else "palette-classic"},
    }
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.shape == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if len(panel.thresholds) > 1 else "off"},
            "showPoints": "never",
        }
    return defaults


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Shape, Data] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _REDUCED,
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCED,
        "orientation": "horizontal",
        "displayMode": "basic",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    },
}
_JOINED: list[Data] = [
    {"id": "merge", "options": {}},
    {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True, "job": True, "instance": True, "project": True},
            "indexByName": {},
            "renameByName": {},
        },
    },
]
