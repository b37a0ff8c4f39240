"""Writes the dashboards of panels.py as Grafana 11 reads them (schema 39).

python deploy/grafana/dashboards.py        # beside this file; a test says if it was forgotten
"""

import json
from pathlib import Path
from typing import Any

from panels import ALL, Dashboard, Panel

HERE = Path(__file__).parent
ACROSS, WIDTH, HEIGHT = 3, 8, 8
"""Panels in a row; their size on Grafana's grid of 24 columns."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLOURS = ("green", "yellow", "red")
YES = {"0": {"text": "down", "color": "red"}, "1": {"text": "up", "color": "green"}}


def panel_json(panel: Panel, number: int) -> dict[str, Any]:
    steps = [{"color": COLOURS[at], "value": value} for at, value in enumerate((None, *panel.limits))]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "custom": _custom(panel),
        "mappings": [{"type": "value", "options": YES}] if panel.unit == "bool_on_off" else [],
    }
    if panel.top is not None:
        defaults["max"] = panel.top
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.question,
        "description": panel.note,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * (number % ACROSS), "y": HEIGHT * (number // ACROSS), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, at, *query) for at, query in enumerate(panel.queries.items())],
    }


def _target(panel: Panel, at: int, legend: str, expression: str) -> dict[str, Any]:
    now = panel.kind in ("stat", "table")
    return {
        "refId": chr(ord("A") + at),
        "datasource": SOURCE,
        "expr": expression,
        "legendFormat": legend,
        "instant": now,
        "range": not now,
        "format": panel.kind if panel.kind in ("table", "heatmap") else "time_series",
    }


def _custom(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 0,
        "showPoints": "auto",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "heatmap":
        scheme = {"mode": "scheme", "scheme": "Oranges", "steps": 64}
        return {"calculate": False, "color": scheme, "yAxis": {"unit": panel.unit}, "cellGap": 1}
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {"reduceOptions": last, "colorMode": "background", "textMode": "auto"} if panel.kind == "stat" else {}


def variables(by_domain: bool) -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    domain = {
        "name": "domain",
        "label": "Domain",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(premortem_evaluations_total, domain)", "refId": "domains"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    return [source, domain] if by_domain else [source]


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    link = {"type": "dashboards", "title": "Premortem", "tags": ["premortem"], "asDropdown": False, "keepTime": True}
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["premortem"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [link],
        "templating": {"list": variables(dashboard.by_domain)},
        "annotations": {"list": []},
        "panels": [panel_json(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def written() -> dict[Path, str]:
    return {
        HERE / f"{each.uid.removeprefix('premortem-')}.json": json.dumps(dashboard_json(each), indent=1) + "\n"
        for each in ALL
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
