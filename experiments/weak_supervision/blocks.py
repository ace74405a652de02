"""Collected metrics of the weak supervision, split into blocks that may be shown together: a profile on a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.common.blocks import DataBlock, read_metrics, split
from experiments.common.collected import describe_seeds, ordered, read_collected
from experiments.common.errors import ExperimentError
from experiments.common.figures import COLOURS, MARKERS
from experiments.weak_supervision.factors import FACTORS

ROOM, ABLATION, DISENTANGLEMENT = "weak_supervision", "weak_supervision_ablation", "disentanglement"
BASELINES = {"label_vae": "LabelVAE", "ada_vae": "AdaVAE"}
PAPER_METHODS = BASELINES | {"hgvae": "HGVAE"}
OURS = {"evidence_hgvae": "EvidenceHGVAE"}
REFERENCES = {"fixed_k": "fixed k", "fixed_k_joint": "fixed k, joint bound"}  # k is given, and the truth
METHODS = PAPER_METHODS | OURS | REFERENCES
SHARED = (0, 1, 3, 5)  # s, of the paper
# From the paper's own. A stand-in is never called by the name of what it stands for.
DATA = {
    "mpi3d_toy": "mpi3d (toy)",
    "mpi3d_realistic": "mpi3d (realistic)",
    "mpi3d_real": "mpi3d (real)",
    "mpi3d_sim": "mpi3d_sim, a rendered stand-in",
}
USUAL_DATA = {"paper": "mpi3d_toy", "medium": "mpi3d_sim", "quick": "mpi3d_sim", "smoke": "mpi3d_sim"}
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
STYLES: dict[str, dict[str, Any]] = {
    method: {"color": colour, "marker": marker, "linestyle": line}
    for method, colour, marker, line in zip(METHODS, COLOURS, MARKERS, _LINES, strict=True)
}
CAPTION = 17.5  # characters per inch


def label(method: str) -> str:
    """A method in words, with a mark where it is not the paper's."""
    kind = "reference: " if method in REFERENCES else "" if method in PAPER_METHODS else "ours: "
    return f"{kind}{METHODS.get(method, method)}"


def independent_factors(shared: int) -> int:
    """k, the number of factors in which the views of a pair differ."""
    return len(FACTORS) - shared


def listed(values: Iterable[Any]) -> str:
    """Different values in ascending order, with commas."""
    return ", ".join(f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in sorted(set(values)))


@dataclass(frozen=True)
class Block(DataBlock):
    """A profile on a data set; ``method`` in the metrics, a line per run, is the row's name without its s."""

    data_names = DATA
    usual_data = USUAL_DATA

    @property
    def budget(self) -> str:
        """Image size, steps and batch size in words."""
        sizes = listed(self.metrics["image_size"].tolist())
        steps, batches = (listed(self.metrics[name].tolist()) for name in ("steps", "batch_size"))
        return f"{sizes} x {sizes} pixels, {steps} steps of {batches} pairs"

    @property
    def methods(self) -> list[str]:
        """Methods with a run, in their order."""
        return ordered(self.metrics["method"], METHODS)

    @property
    def shared(self) -> list[int]:
        """Numbers of shared factors with a run."""
        return ordered(self.metrics["shared"].tolist(), SHARED)

    @property
    def missing(self) -> dict[str, list[int]]:
        """Known methods -> numbers of shared factors without a run."""
        there = set(zip(self.metrics["method"], self.metrics["shared"]))
        missing = {method: [shared for shared in SHARED if (method, shared) not in there] for method in METHODS}
        return {method: shared for method, shared in missing.items() if shared}

    def runs(self, method: str, shared: int | None = None) -> pd.DataFrame:
        """Metrics of a method, of all pairs or of those that share ``shared`` factors; a line per run."""
        chosen = self.metrics["method"] == method
        return self.metrics[chosen if shared is None else chosen & (self.metrics["shared"] == shared)]

    def table(self, name: str) -> pd.DataFrame:
        """Returns this block's lines of another table, with ``method`` and ``shared``.

        Args:
            name: ``accuracies``, ``profile``, ``history``, ``traversals`` or ``reconstructions``.

        Raises:
            ExperimentError: there is no such file.
        """
        columns = ["run_id", "method", "shared"]
        table = read_collected(self.folder / f"{ROOM}_{name}.csv").drop(columns=columns[1:], errors="ignore")
        return table.merge(self.metrics[columns], on="run_id")

    def of_room(self, room: str, name: str) -> pd.DataFrame:
        """Returns the lines of another room's table with this profile and data.

        Raises:
            ExperimentError: there is no such file.
        """
        table = read_collected(self.folder / f"{room}_{name}.csv")
        return table[(table["profile"] == self.profile) & (table["data"] == self.data)]

    def described(self, lines: pd.DataFrame) -> str:
        """Profile, data, budget and seeds of a figure's lines, the last sentence of its caption."""
        return f"{self.heading}: {self.budget}, {describe_seeds(lines)}."


def read_blocks(metrics: Path, profile: str | None = None) -> list[Block]:
    """Reads ``<metrics>/weak_supervision_metrics.csv``.

    Args:
        metrics: Folder of the CSVs.
        profile: Profile to take; None for every one.

    Returns:
        A block for every profile and data set with a run, the largest first.

    Raises:
        ExperimentError: the file isn't there or holds no such run.
    """
    table = read_metrics(metrics / f"{ROOM}_metrics.csv", profile)
    table = table.assign(method=[re.sub(r"_s\d+$", "", row.split("/")[-1]) for row in table["row"]])
    return [Block(metrics, *part) for part in split(table, DATA)]


def mean_and_error(values: pd.Series) -> tuple[float, float]:
    """Mean and its standard error, which is NaN for a single value."""
    return float(values.mean()), float(values.sem())


def not_drawn(what: Mapping[str, Any] | Iterable[str], block: Block) -> ExperimentError:
    """The error of a figure without runs."""
    return ExperimentError(f"the metrics hold no run of {' or '.join(what)} at {block.source}")
