"""Tables of the two studies: what makes the start good, and what keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from experiments import results
from experiments.clustering.blocks import DATA
from experiments.results import describe_seeds, provenance_of, spread
from experiments.tables import NOTHING, Table

PRETRAINING, RECIPE = "clustering_pretraining_metrics", "clustering_recipe_metrics"
FIRST = "whole"  # the recipe that the others are compared with


def pretraining_tables(metrics: Path) -> list[Table]:
    """Accuracy of the clusters that each pretraining finds and of the VaDE that starts from them."""
    header = ["recipe", "found: Acc (each seed)", "NMI", "start, test: Acc (each seed)", "reconstruction", "likelihood"]

    def cells(part: pd.DataFrame) -> list[str]:
        found, start = (part[part["stage"] == stage] for stage in ("found", "start"))
        return [
            _per_seed(found["accuracy"]),
            spread(100 * found["nmi"], 1),
            _per_seed(start[start["split"] == "test"]["accuracy"]),
            spread(found["reconstruction_loss"], 1),
            spread(found["log_likelihood"], 2),
        ]

    blocks = _blocks(metrics, PRETRAINING)
    return [_table(f"Pretraining, {place}", header, block, PRETRAINING, cells) for place, block in blocks]


def recipe_tables(metrics: Path) -> list[Table]:
    """Accuracy before and after the VaDE's training, with one step of the recipe taken away per row."""
    header = ["recipe", "start: Acc (each seed)", "after training: Acc (each seed)", "NMI", "bound"]

    def cells(part: pd.DataFrame) -> list[str]:
        start, trained = (part[part["stage"] == stage] for stage in ("start", "vade"))
        accuracies = [_per_seed(start["accuracy"]), _per_seed(trained["accuracy"])]
        return [*accuracies, spread(100 * trained["nmi"], 1), spread(trained["elbo"], 1)]

    return [
        _table(f"Recipe, uniform prior, {place}, test split", header, block[block["split"] == "test"], RECIPE, cells)
        for place, block in _blocks(metrics, RECIPE)
    ]


def _table(
    title: str, header: list[str], block: pd.DataFrame, name: str, cells: Callable[[pd.DataFrame], list[str]]
) -> Table:
    """A row per recipe, with what was changed of it."""
    rows, provenance = [], []
    names = (block["recipe"] + " " + block["changes"]).str.strip()
    for recipe, part in sorted(block.groupby(names), key=lambda pair: (not pair[0].startswith(FIRST), pair[0])):
        rows.append([recipe, *cells(part)])
        provenance.append(provenance_of(part, f"{name}.csv"))
    return Table(f"{title}, {describe_seeds(block)}", header, rows, provenance)


def _blocks(metrics: Path, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Parts of one profile and data set with their names in words, the largest first; none where there was no run."""
    if (metrics / f"{name}.csv").is_file():
        for block in results.blocks(results.read_metrics(metrics, name, changes=True), DATA):
            yield f"profile {block.profile}, {DATA.get(block.data, block.data)}", block.lines.sort_values("seed")


def _per_seed(values: pd.Series) -> str:
    """Mean and spread in percent, and every seed's value."""
    if values.empty:
        return NOTHING
    each = " ".join(f"{100 * value:.1f}" for value in values)
    return f"{spread(100 * values, 1)} ({each})"
