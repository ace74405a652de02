"""Pairs that share a random number of factors: whether k-hat follows k pair by pair, which no constant does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.results import blocks, ordered, provenance_of, read_metrics
from experiments.settings import ExperimentError
from experiments.tables import Table
from experiments.weak_supervision.blocks import RANDOM, ROOM, Block, label
from experiments.weak_supervision.data.sources import SOURCES
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.table_1 import METRICS_FILE, with_error

TITLE = """\
# Pairs that share a random number of factors

k, the number of factors that differ, is uniform on 1..7, pair by pair. Rank correlation: Spearman's, of E[k-hat] with
k over the test pairs; 0 for an estimate that is the same for all. "k = 1" and so on: mean of E[k-hat] over the pairs of
that k. Shared set: balanced accuracy with which the latent of a factor is shared where the factor is, over the factors
that one latent stands for (it explains at least half of that latent's variance; their number in brackets).
"""


def random_blocks(metrics: Path, profile: str | None = None) -> list[Block]:
    """The blocks that have runs on such pairs.

    Raises:
        ExperimentError: there is none.
    """
    table = read_metrics(metrics, f"{ROOM}_metrics", profile=profile)
    table = table[table["shared"].astype(str) == RANDOM]
    if table.empty:
        raise ExperimentError(f"the metrics hold no run with shared={RANDOM}")
    return [Block(metrics, *part) for part in blocks(table, SOURCES)]


def means_by_count(block: Block) -> pd.DataFrame:
    """Mean of E[k-hat] by true k, a line per run id and a column per k."""
    counts = read_metrics(block.folder, f"{ROOM}_counts", profile=block.profile)
    counts = counts[counts["data"] == block.data]
    return counts.groupby(["run_id", "true_count"])["mean"].first().unstack("true_count")


def random_table(block: Block) -> Table:
    """Rank correlation, means by k, set accuracy and bounds, a line per method."""
    means = means_by_count(block)
    header = ["method", "rank correlation", *(f"k = {count}" for count in means), "shared set (factors)"]
    header += ["active latents", "bound, joint", "seeds"]
    rows, provenance = [], []
    for method in ordered(block.metrics["method"], METHODS):
        runs = block.runs(method)
        of_runs = means.reindex(runs["run_id"])
        cells = [with_error(runs["rank_correlation"], 3), *(with_error(of_runs[count], 2) for count in means)]
        cells.append(f"{with_error(runs['shared_set_accuracy'].dropna(), 3)} ({runs['assigned_factors'].mean():.1f})")
        cells += [with_error(runs["active_latents"], 1), with_error(runs["joint_bound"], 2)]
        rows.append([label(method), *cells, str(runs["seed"].nunique())])
        provenance.append(provenance_of(runs, METRICS_FILE))
    return Table(f"Random numbers of shared factors on {block.source}: mean ± standard error", header, rows, provenance)
