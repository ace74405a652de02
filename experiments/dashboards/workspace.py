"""Makes W&B workspaces of dashboards, and text that is the same for the same dashboard."""

from __future__ import annotations

import json
from typing import Any

from experiments.dashboards.dashboard import Chart, Dashboard
from experiments.settings import ExperimentError
from experiments.tracking import STEP, logged_in


def workspace(dashboard: Dashboard, entity: str, project: str) -> Any:
    """Returns a ``wandb_workspaces.workspaces.Workspace``; nothing is sent.

    Raises:
        ExperimentError: the package wandb-workspaces is missing.
    """
    try:
        from wandb_workspaces import workspaces as ws
        from wandb_workspaces.expr import And
        from wandb_workspaces.reports.v2 import interface as reports
    except ImportError:
        raise ExperimentError("wandb-workspaces is not installed: pip install '.[experiments]'") from None

    def panel(chart: Chart) -> Any:
        if chart.over_steps:
            return reports.LinePlot(title=chart.title, x=STEP, y=list(chart.metrics))
        return reports.BarPlot(title=chart.title, metrics=list(chart.metrics))

    return ws.Workspace(
        entity=entity,
        project=project,
        name=dashboard.name,
        sections=[
            ws.Section(name=title, panels=[panel(chart) for chart in charts], is_open=True)
            for title, charts in dashboard.sections.items()
        ],
        runset_settings=ws.RunsetSettings(
            filters=And(ws.Config("experiment_name").isin(list(dashboard.experiments))),
            groupby=[ws.Config(key) for key in dashboard.group_by],
        ),
    )


def workspace_json(dashboard: Dashboard, entity: str, project: str) -> str:
    """Returns the workspace as W&B gets it, with the random ids of its parts replaced by their number."""
    model = workspace(dashboard, entity, project)._to_model()
    content = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    _number_ids(content, [0])
    return json.dumps(content, indent=1) + "\n"


def push(dashboard: Dashboard, entity: str, project: str) -> str:
    """Makes the workspace in W&B.

    Returns:
        Its address.

    Raises:
        ExperimentError: there is no login or no entity, or W&B refuses.
    """
    if not logged_in():
        raise ExperimentError("W&B has no key: run `wandb login`, then this again; the JSON files need no login")
    if not entity:
        raise ExperimentError("whose dashboards? give --entity USER_OR_TEAM or set WANDB_ENTITY")
    made = workspace(dashboard, entity, project)
    try:
        made.save()
    except Exception as error:  # the client raises its own, requests' and GraphQL's kinds
        raise ExperimentError(f"W&B refused {dashboard.name}: {str(error).splitlines()[0]}") from None
    return str(made.url)


def _number_ids(value: Any, count: list[int]) -> None:
    if isinstance(value, list):
        for inner in value:
            _number_ids(inner, count)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("id", "__id__") and isinstance(inner, str) and inner:
                value[key] = str(count[0])
                count[0] += 1
            else:
                _number_ids(inner, count)
