"""A part of the page, and how tables, charts and figures come into it or are named as missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common.errors import ExperimentError
from experiments.common.provenance import Provenance
from experiments.common.tables import Table
from experiments.report.charts import Chart
from experiments.report.pictures import Picture
from experiments.weak_supervision.runtimes import benchmark_file


@dataclass(frozen=True)
class Inputs:
    """Where the committed files lie.

    Attributes:
        metrics: Folder of the CSVs.
        figures: Folder of the figures.
    """

    metrics: Path
    figures: Path

    @property
    def benchmark(self) -> Path:
        """Folder of the benchmarks that belong to the metrics."""
        return benchmark_file(self.metrics).parent


@dataclass(frozen=True)
class Shown:
    """A table with the place of the paper's numbers in it."""

    table: Table
    place: str = ""


@dataclass
class Section:
    """A room's part of the page.

    Attributes:
        key: Its id on the page.
        heading: Its heading.
        text: A sentence or two.
        parts: Tables, charts and pictures in their order.
        missing: What is left out and why.
    """

    key: str
    heading: str
    text: str
    parts: list[Shown | Chart | Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def table(self, name: str, make: Callable[[], Table | list[Table]], place: str = "") -> None:
        """Adds a table or several, or names what is missing."""
        try:
            made = make()
        except ExperimentError as error:
            self.missing.append(f"{name}: {error}")
            return
        self.parts += [Shown(table, place) for table in (made if isinstance(made, list) else [made])]

    def chart(self, name: str, make: Callable[[], Chart]) -> None:
        """Adds a chart, or names what is missing."""
        try:
            self.parts.append(make())
        except ExperimentError as error:
            self.missing.append(f"{name}: {error}")

    def picture(self, path: Path, caption: str, provenance: Provenance) -> None:
        """Adds a figure, or names what is missing."""
        if path.is_file():
            self.parts.append(Picture(path, caption, provenance))
        else:
            self.missing.append(f"{path.stem}: {path} does not exist")
