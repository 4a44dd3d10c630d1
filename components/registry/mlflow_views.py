"""Named views of an experiment in MLflow's pages: tables and charts that open ready made.

A view is a tag of the experiment: JSON with name, time and a state that is "deflate;" and base64 of
zlib of JSON. What the state holds is what MLflow's page (3.17) writes when a person saves a view.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from components.registry.pages import Chart, View

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "mlflow.sharedViewState."
LINK = "viewStateShareKey"
SECTION = "prefixprop"
MOST_RUNS = 20


def save_views(client: "MlflowClient", experiment_id: str, views: Sequence[View]) -> None:
    """Keep the views as tags of the experiment, where they changed."""
    known = client.get_experiment(experiment_id).tags
    for view in views:
        state = encoded(state_of(view))
        before = known.get(TAG + view.id)
        if before is not None and json.loads(before).get("state") == state:
            continue
        value = {"name": view.name, "createdAt": int(time.time() * 1000), "state": state}
        text = json.dumps(value, separators=(",", ":"))
        client.set_experiment_tag(experiment_id, TAG + view.id, text)


def query_of(view: View) -> str:
    """The part of an address that opens the view."""
    mode = {"compareRunsMode": "CHART"} if view.opens_on_charts else {}
    return urlencode({LINK: view.id} | mode)


def encoded(state: dict[str, Any]) -> str:
    """As MLflow's page reads it."""
    text = json.dumps(state, separators=(",", ":")).encode()
    return "deflate;" + base64.b64encode(zlib.compress(text, 9)).decode("ascii")


def state_of(view: View) -> dict[str, Any]:
    """What MLflow's page keeps of a table and its charts."""
    columns = [column_id(column) for column in view.columns]
    state: dict[str, Any] = {
        "searchFilter": view.filter,
        "orderByKey": column_id(view.order_by) if view.order_by else "attributes.start_time",
        "orderByAsc": view.ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }
    if view.group_by:
        key = {"mode": "tag", "groupByData": view.group_by}
        state["groupBy"] = {
            "aggregateFunction": "min" if view.ascending else "max",
            "groupByKeys": [key],
        }
    if view.charts:
        state["compareRunSections"] = [
            {
                "uuid": SECTION,
                "name": view.name,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ]
        state["compareRunCharts"] = [
            chart_of(chart, f"{view.id}-{number}") for number, chart in enumerate(view.charts)
        ]
        state["isAccordionReordered"] = True
    return state


def column_id(column: str) -> str:
    """`metrics.x` in the page's words."""
    kind, _, name = column.partition(".")
    return f"{kind}.`{name}`"


def chart_of(chart: Chart, uuid: str) -> dict[str, Any]:
    """A chart in the page's words."""
    common = {
        "uuid": uuid,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "displayName": chart.title,
        "runsCountToCompare": MOST_RUNS,
    }
    first = chart.metrics[0]
    if chart.kind == "line":
        line = {
            "type": "LINE",
            "metricKey": first,
            "selectedMetricKeys": list(chart.metrics),
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "scaleType": "linear",
            "xAxisScaleType": "linear",
            "lineSmoothness": 0,
            "range": {},
            "useGlobalXaxisKey": True,
        }
        return common | line
    if chart.kind == "parallel":
        parallel = {
            "type": "PARALLEL",
            "selectedParams": list(chart.params),
            "selectedMetrics": list(chart.metrics),
            "showAllRuns": True,
        }
        return common | parallel
    if chart.kind == "scatter":
        across = (
            {"key": chart.params[0], "type": "PARAM"}
            if chart.params
            else {"key": chart.metrics[1], "type": "METRIC"}
        )
        axes = {"xaxis": across, "yaxis": {"key": first, "type": "METRIC"}}
        return common | {"type": "SCATTER"} | axes
    return common | {"type": "BAR", "metricKey": first}
