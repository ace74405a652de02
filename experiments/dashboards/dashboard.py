"""What a dashboard is: sections of charts over the runs of some experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


def curves(title: str, *metrics: str) -> Chart:
    """Returns a chart of logged values over the steps."""
    return Chart(title, metrics, over_steps=True)


def bars(title: str, *metrics: str) -> Chart:
    """Returns a chart of values of the summary."""
    return Chart(title, metrics, over_steps=False)


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
