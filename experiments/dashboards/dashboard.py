"""What a dashboard is: sections of charts over the runs of some rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Curves:
    """Logged metrics over the steps.

    Attributes:
        title: Shown above, with the unit.
        metrics: Names.
    """

    title: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Bars:
    """Values of the summary, a bar per group of runs.

    Attributes:
        title: Shown above, with the unit.
        metrics: Names.
    """

    title: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Dashboard:
    """One workspace.

    Attributes:
        name: Of the workspace and its file.
        rooms: Folders under configs/experiment whose runs it shows.
        group_by: Keys of the configuration that runs are grouped by, from the outermost.
        sections: Title -> charts.
    """

    name: str
    rooms: tuple[str, ...]
    group_by: tuple[str, ...]
    sections: Mapping[str, Sequence[Curves | Bars]]

    def metrics(self) -> set[str]:
        """The names that its charts show."""
        return {name for charts in self.sections.values() for chart in charts for name in chart.metrics}
