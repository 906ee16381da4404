"""Makes writebehind.json, the dashboard, of panels.yml: `python deploy/grafana/dashboard.py`.

A panel is a few lines there, and a page of what Grafana wants here. A test sees that the two agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PANELS, FILE = Path(__file__).with_name("panels.yml"), Path(__file__).with_name("writebehind.json")
RUNBOOK = "https://github.com/writebehind/writebehind/tree/main/docs/runbook.md"
#: Columns of Grafana's grid.
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: The value of the query that the variable `job` offers: one installation each.
JOBS = "label_values(writebehind_build_info, job)"
#: By kind: columns and lines of the grid, and options.
_SIZES = {"timeseries": (8, 8), "stat": (4, 5), "bargauge": (8, 8)}
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"colorMode": "background", "graphMode": "area", "textMode": "value", "reduceOptions": _LAST},
    "bargauge": {"displayMode": "lcd", "orientation": "vertical", "reduceOptions": _LAST},
}


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana 10.4 and newer import it."""
    rows = yaml.safe_load(PANELS.read_text("utf-8"))
    return {
        "uid": "writebehind",
        "title": "writebehind",
        "description": "How much is only in Redis, when it is safe, and how everything on the way does.",
        "tags": ["writebehind"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the same moment is marked in all panels
        "refresh": "15s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"title": "Runbook", "type": "link", "url": RUNBOOK, "targetBlank": True, "icon": "doc"}],
        "templating": {
            "list": [
                _variable("datasource", "Prometheus", "datasource", "prometheus"),
                _variable("job", "Installation", "query", {"query": JOBS, "refId": "jobs"})
                | {"datasource": SOURCE, "definition": JOBS, "refresh": 2, "sort": 1},
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "enable": True,
                    "iconColor": "red",
                    "datasource": SOURCE,
                    "expr": 'ALERTS{job="$job", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "tagKeys": "severity",
                    "step": "15s",
                }
            ]
        },
        "panels": list(_placed(rows)),
    }


def _variable(name: str, label: str, kind: str, query: object) -> dict[str, Any]:
    return {"name": name, "label": label, "type": kind, "query": query, "hide": 0, "multi": False}


def _placed(rows: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """All rows and panels, from top to bottom; those of a row fill its lines from the left."""
    number, y = 1, 0
    for title, row in rows.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}
        number, x, y, line = number + 1, 0, y + 1, 0
        for one in row:
            usual = _SIZES[one.get("kind", "timeseries")]
            width, height = one.get("width", usual[0]), one.get("height", usual[1])
            if x + width > WIDTH:
                x, y, line = 0, y + line, 0
            yield _panel(one, number, {"x": x, "y": y, "w": width, "h": height})
            number, x, line = number + 1, x + width, max(line, height)
        y += line


def _panel(one: Mapping[str, Any], number: int, place: Mapping[str, int]) -> dict[str, Any]:
    kind = one.get("kind", "timeseries")
    # Of what is unknown where it is missing, the last value that was known would be shown.
    is_now = kind == "bargauge" or (kind == "stat" and "none" in one)
    steps = [
        {"value": None if value == "least" else value, "color": color}
        for value, color in one.get("steps", {"least": "green"}).items()
    ]
    defaults = {
        "unit": one["unit"],
        "min": 0,
        "color": {"mode": "thresholds" if kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    defaults |= {key: one[name] for key, name in (("max", "highest"), ("noValue", "none")) if name in one}
    if words := one.get("words"):
        defaults["mappings"] = [
            {"type": "value", "options": {str(value): {"text": text} for value, text in words.items()}}
        ]
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", **one.get("lines", {})}
    return {
        "id": number,
        "type": kind,
        "title": one["title"],
        "description": one["text"],
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[kind],
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
                "range": not is_now,
                "instant": is_now,
            }
            for at, (legend, expr) in enumerate(one["queries"].items())
        ],
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
