"""Dashboards of Grafana: what a panel needs, and every expression by promtool."""

import copy
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.infra.kinds.file_kind import FileKind, misspelt
from tests.infra.kinds.prometheus_file import METRIC, promtool, unknown_metrics

DASHBOARD = {"title", "uid", "schemaVersion", "refresh", "time", "templating", "panels"}
PANEL = {
    *("id", "type", "title", "description", "gridPos", "datasource", "fieldConfig", "targets"),
}
TARGET = {"refId", "expr", "legendFormat"}
UNITS = ("short", "s", "none", "bytes", "percentunit")
"""Of Grafana's many units those that are used here."""


def problems(path: Path, content: dict[str, Any]) -> list[str]:
    """Keys, units, variables, places that overlap, and the expressions."""
    found = [f"key {key}" for key in DASHBOARD ^ set(content)]
    places: set[tuple[int, int]] = set()
    for panel in content.get("panels", []):
        found += [f"{panel.get('title')}: key {key}" for key in set(panel) - PANEL]
        found += [f"{panel.get('title')}: no {key}" for key in PANEL - {"description"} - set(panel)]
        for target in panel.get("targets", []):
            found += [f"{panel.get('title')}: key {key}" for key in TARGET ^ set(target)]
        if found:
            return found
        if (
            panel["fieldConfig"]["defaults"].get("unit") not in UNITS
            or panel["type"] != "timeseries"
        ):
            found.append(f"{panel['title']}: unit or type")
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            found.append(f"{panel['title']}: data source")
        grid = panel["gridPos"]
        taken = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        if taken & places or grid["x"] + grid["w"] > 24:
            found.append(f"{panel['title']}: its place is taken")
        places |= taken
    if found:
        return found
    variables = {each["name"] for each in content["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(content["panels"])))
    found += [f"variable {name}" for name in sorted(used ^ variables)]
    text = json.dumps(content)
    return found + unknown_metrics(text) + _of_expressions(content)


def _of_expressions(content: dict[str, Any]) -> list[str]:
    """All as rules of one file, a variable filled in."""
    expressions = [target["expr"] for panel in content["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{index}", "expr": each.replace("$experiment", ".*")}
        for index, each in enumerate(expressions)
    ]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "expressions.yaml")
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        return promtool("check", "rules", str(file))


def broken(path: Path, content: dict[str, Any]) -> dict[str, list[Any]]:
    """Keys of the top, of panels and targets; expressions and units; metrics and variables."""
    keys = misspelt(content)
    text = json.dumps(content)
    keys += [json.loads(text.replace(f'"{key}":', f'"{key}x":')) for key in (*TARGET, "gridPos")]
    values = [
        json.loads(text.replace(old, new))
        for old, new in (
            ("[1m]", "[1x]"),
            ("sum by (", "sum bye ("),
            ('"unit": "s"', '"unit": "x"'),
        )
    ]
    for index in range(len(content["panels"])):
        changed = copy.deepcopy(content)
        changed["panels"][index]["targets"][0]["expr"] += ")"
        values.append(changed)
    names = [
        json.loads(re.sub(rf"\b{name}\b", f"{name}x", text))
        for name in (*sorted(f"ray_{each}" for each in set(METRIC.findall(text))), "datasource")
        if name != "datasource"
    ]
    names.append(json.loads(text.replace("$experiment", "$experiments")))
    return {"a key": keys, "a value": values, "a name": names}


KIND = FileKind(("monitoring/*.json",), json.loads, problems, broken)
