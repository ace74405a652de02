"""Collected clustering metrics, split into blocks that may be shown together: one profile on one data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.common.blocks import DataBlock, read_metrics, split
from experiments.common.collected import ordered, read_collected

PAPER_PRIORS = {"uniform": "uniform", "categorical": "categorical", "hypergeometric": "hypergeometric"}
PRIORS = PAPER_PRIORS | {
    "hypergeometric_merged": "hypergeometric, merged conditionals",
    "hypergeometric_assignments": "hypergeometric over assignments",
}
VERSIONS = {"full": "full", "80": "80 %", "60": "60 %"}
DATA = {"mnist": "MNIST", "digits_5000": "5,000-digit subset"}  # from the largest
USUAL_DATA = {"paper": "mnist", "medium": "mnist", "quick": "digits_5000", "smoke": "digits_5000"}
_TEXT = {"version": str}  # 80 and 60 would be numbers where "full" is missing


@dataclass(frozen=True)
class Block(DataBlock):
    """A profile on a data set; ``prior`` in the metrics is the row's name without its version."""

    data_names = DATA
    usual_data = USUAL_DATA

    @property
    def priors(self) -> dict[str, str]:
        """Priors with a run -> their names in words."""
        return {prior: PRIORS.get(prior, prior) for prior in ordered(self.metrics["prior"], PRIORS)}

    @property
    def versions(self) -> dict[str, str]:
        """Dataset versions with a run -> their names in words."""
        return {version: VERSIONS.get(version, version) for version in ordered(self.metrics["version"], VERSIONS)}

    def scores(self, split: str = "test", stage: str = "vade") -> pd.DataFrame:
        """Returns the metrics of one split and stage, a line per run."""
        return self.metrics[(self.metrics["split"] == split) & (self.metrics["stage"] == stage)]

    def table(self, name: str) -> pd.DataFrame:
        """Returns this block's lines of another table, with ``prior`` and ``version``.

        Args:
            name: ``weights``, ``confusion``, ``history``, ``generated`` or ``latent``.

        Raises:
            ExperimentError: there is no such file.
        """
        columns = ["run_id", "prior", "version"]
        table = read_collected(self.folder / f"clustering_{name}.csv", _TEXT).drop(columns=columns[1:], errors="ignore")
        return table.merge(self.metrics[columns].drop_duplicates(), on="run_id")


def read_blocks(metrics: Path, profile: str | None = None) -> list[Block]:
    """Reads ``<metrics>/clustering_metrics.csv``.

    Args:
        metrics: Folder of the CSVs.
        profile: Profile to take; None for every one.

    Returns:
        A block for every profile and data set with a run, the largest first.

    Raises:
        ExperimentError: the file isn't there or holds no such run.
    """
    table = read_metrics(metrics / "clustering_metrics.csv", profile, _TEXT)
    names = [
        row.split("/")[-1].removesuffix(f"_{version}")
        for row, version in zip(table["row"], table["version"], strict=True)
    ]
    table = table.assign(prior=names)
    return [Block(metrics, *part) for part in split(table, DATA)]
