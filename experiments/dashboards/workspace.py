"""What a dashboard is, a W&B workspace of sections of charts over the runs of some experiments, and how it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.settings import ExperimentError
from experiments.tracking import STEP, logged_in


@dataclass(frozen=True)
class Chart:
    """Some metrics under a title, which has the unit.

    Attributes:
        title: Shown above.
        metrics: Names.
        over_steps: Logged values over the steps; otherwise values of the summary, a bar per group of runs.
    """

    title: str
    metrics: tuple[str, ...]
    over_steps: bool

    def panel(self) -> Any:
        """Returns it as W&B's client wants it."""
        from wandb_workspaces.reports.v2 import interface as reports

        if self.over_steps:
            return reports.LinePlot(title=self.title, x=STEP, y=list(self.metrics))
        return reports.BarPlot(title=self.title, metrics=list(self.metrics))


@dataclass(frozen=True)
class Dashboard:
    """One workspace.

    Attributes:
        experiments: Whose runs it shows; the first gives the workspace and its file their name.
        group_by: Axes and other keys of the configuration that runs are grouped by, from the outermost.
        sections: Title -> charts.
    """

    experiments: tuple[str, ...]
    group_by: tuple[str, ...]
    sections: Mapping[str, Sequence[Chart]]

    @property
    def name(self) -> str:
        """Of the workspace and its file."""
        return self.experiments[0]

    def metrics(self) -> set[str]:
        """The names that its charts show."""
        return {name for charts in self.sections.values() for chart in charts for name in chart.metrics}

    def workspace(self, entity: str, project: str) -> Any:
        """Returns a ``wandb_workspaces.workspaces.Workspace``; nothing is sent."""
        from wandb_workspaces import workspaces as ws
        from wandb_workspaces.expr import And

        sections = [
            ws.Section(name=title, panels=[chart.panel() for chart in charts], is_open=True)
            for title, charts in self.sections.items()
        ]
        runs = ws.RunsetSettings(
            filters=And(ws.Config("experiment_name").isin(list(self.experiments))),
            groupby=[ws.Config(key) for key in self.group_by],
        )
        return ws.Workspace(entity=entity, project=project, name=self.name, sections=sections, runset_settings=runs)

    def json(self, entity: str, project: str) -> str:
        """Returns the workspace as W&B gets it, with the random ids of its parts replaced by their number."""
        model = self.workspace(entity, project)._to_model()
        content = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        _number_ids(content, [0])
        return json.dumps(content, indent=1) + "\n"

    def push(self, entity: str, project: str) -> str:
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
        made = self.workspace(entity, project)
        try:
            made.save()
        except Exception as error:  # the client raises its own, requests' and GraphQL's kinds
            raise ExperimentError(f"W&B refused {self.name}: {str(error).splitlines()[0]}") from None
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
