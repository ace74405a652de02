"""Collected metrics of the weak supervision in blocks that may be shown together: a profile on a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from experiments import results
from experiments.figures import look
from experiments.results import MetricsBlock, describe_seeds, ordered, read_metrics
from experiments.settings import ExperimentError
from experiments.weak_supervision.data.sources import SOURCES
from experiments.weak_supervision.methods import METHODS, PAPER_METHODS, REFERENCES

ROOM, DISENTANGLEMENT = "weak_supervision", "disentanglement"
SHARED = (0, 1, 3, 5)  # s, of the paper
RANDOM = "random"  # in place of s: of each pair another


class Block(MetricsBlock):
    """What one profile measured on one data set; its metrics are those of the methods as they are defined."""

    usual_data: ClassVar[Mapping[str, str]] = {
        "paper": "mpi3d_toy",
        **dict.fromkeys(("medium", "quick", "smoke"), "mpi3d_sim"),
    }

    @property
    def data_in_words(self) -> str:
        return SOURCES[self.data].words if self.data in SOURCES else self.data

    @property
    def num_factors(self) -> int:
        """Number of generative factors of the data.

        Raises:
            ExperimentError: this code doesn't know them.
        """
        if self.data not in SOURCES:
            raise ExperimentError(f"this code has no data {self.data}, only {', '.join(SOURCES)}")
        return len(SOURCES[self.data].factors)

    @property
    def budget(self) -> str:
        """Image size, steps and batch size in words."""
        sizes, steps, batches = (listed(self.metrics[name]) for name in ("image_size", "steps", "batch_size"))
        return f"{sizes} x {sizes} pixels, {steps} steps of {batches} pairs"

    @property
    def methods(self) -> list[str]:
        """Methods with a run, in their order."""
        return ordered(self.metrics["method"], METHODS)

    @property
    def shared(self) -> list[int]:
        """Numbers of shared factors with a run."""
        return ordered(self.metrics["shared"].tolist(), SHARED)

    def runs(self, method: str, shared: int | None = None) -> pd.DataFrame:
        """Metrics of a method, of all pairs or of those that share ``shared`` factors; a line per run."""
        chosen = self.metrics["method"] == method
        return self.metrics[chosen if shared is None else chosen & (self.metrics["shared"] == shared)]

    def table(self, name: str, room: str = ROOM, *, changes: bool = False) -> pd.DataFrame:
        """Returns the lines of another table with this profile and data.

        Args:
            name: for example ``profile``.
            room: whose table; a room that stands on this one has the same axes.
            changes: whether lines of runs with changed settings are among them.

        Raises:
            ExperimentError: there is no such file, or no such run in it.
        """
        table = read_metrics(self.folder, f"{room}_{name}", profile=self.profile, changes=changes)
        table = of_number(table[table["data"] == self.data])
        if table.empty:
            raise ExperimentError(f"the metrics hold no {room}_{name} at {self.source}")
        return table

    def described(self, lines: pd.DataFrame) -> str:
        """Profile, data, budget and seeds of a figure's lines, the last sentence of its caption."""
        return f"{self.heading}: {self.budget}, {describe_seeds(lines, 'method', METHODS)}."

    def style(self, method: str) -> dict[str, Any]:
        """Colour, marker and line of a method: the known ones have their own in every figure."""
        return look(method, dict.fromkeys([*METHODS, *self.methods]))


def read_blocks(metrics: Path) -> list[Block]:
    """Reads ``<metrics>/weak_supervision_metrics.csv``.

    Returns:
        A block for every profile and data set with a run on pairs of one number of shared factors, the largest first.

    Raises:
        ExperimentError: the file isn't there or holds no run at all.
    """
    table = of_number(read_metrics(metrics, f"{ROOM}_metrics"))
    return [Block(metrics, *part) for part in results.blocks(table, SOURCES)]


def of_number(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of pairs that share one number of factors, as integers; those of random numbers are left out."""
    return lines[lines["shared"].astype(str) != RANDOM].astype({"shared": int})


def with_scaled_error(runs: pd.DataFrame, num_factors: int) -> pd.DataFrame:
    """Runs with ``scaled_count_error``, also those made before it was a column: of E[k-hat] factors / latents."""
    scaled = num_factors * runs["expected_count"] / runs["latents"]
    return runs.assign(scaled_count_error=(scaled - (num_factors - runs["shared"])).pow(2))


def count_of_held(runs: pd.DataFrame, num_factors: int) -> pd.Series:
    """The number of factors times the share of latents told apart; NaN in runs that did not count them."""
    return num_factors * runs["told_apart"] / runs["told_apart_unshared"].where(runs["told_apart_unshared"] > 0)


def label(method: str) -> str:
    """A method in words, with a mark where it is not the paper's."""
    kind = "reference: " if method in REFERENCES else "" if method in PAPER_METHODS else "ours: "
    return f"{kind}{METHODS.get(method, method)}"


def listed(values: Iterable[Any]) -> str:
    """Different values in ascending order, with commas."""
    found = sorted(set(values.tolist() if isinstance(values, pd.Series) else values))
    return ", ".join(f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in found)


def mean_and_error(values: pd.Series) -> tuple[float, float]:
    """Mean and its standard error, which is NaN for a single value."""
    return float(values.mean()), float(values.sem())
