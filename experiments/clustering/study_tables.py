"""Tables of the two studies: what makes the start good, and what keeps it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.clustering.blocks import DATA
from experiments.common.collected import describe_seeds
from experiments.common.figures import PROFILES
from experiments.common.provenance import provenance_of
from experiments.common.tables import NOTHING, Table, spread

PRETRAINING, RECIPE = "clustering_pretraining", "clustering_recipe"


def _read(metrics: Path, room: str) -> pd.DataFrame:
    path = metrics / _file(room)
    return pd.read_csv(path, dtype={"version": str}) if path.is_file() else pd.DataFrame()


def _file(room: str) -> str:
    return f"{room}_metrics.csv"


def _per_seed(values: pd.Series) -> str:
    """Mean and spread in percent, and every seed's value."""
    if values.empty:
        return NOTHING
    each = " ".join(f"{100 * value:.1f}" for value in values)
    return f"{spread(100 * values, 1)} ({each})"


def _blocks(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Parts of one profile and data set with a heading, the largest first."""
    parts = []
    for profile in PROFILES:
        for data in DATA:
            part = table[(table["profile"] == profile) & (table["data"] == data)]
            if len(part):
                parts.append((f"profile {profile}, {DATA[data]}", part.sort_values("seed")))
    return parts


def pretraining_tables(metrics: Path) -> list[Table]:
    """Accuracy of the clusters that each pretraining finds and of the VaDE that starts from them."""
    table = _read(metrics, PRETRAINING)
    if table.empty:
        return []
    tables = []
    for heading, block in _blocks(table):
        rows, provenance = [], []
        for row, part in sorted(block.groupby("row"), key=lambda pair: (not pair[0].endswith("/default"), pair[0])):
            found, start = (part[part["stage"] == stage] for stage in ("found", "start"))
            rows.append(
                [
                    row.split("/")[1],
                    _per_seed(found["accuracy"]),
                    spread(100 * found["nmi"], 1),
                    _per_seed(start[start["split"] == "test"]["accuracy"]),
                    spread(found["reconstruction_loss"], 1),
                    spread(found["log_likelihood"], 2),
                ]
            )
            provenance.append(provenance_of(part, _file(PRETRAINING)))
        header = [
            "row",
            "found: Acc (each seed)",
            "NMI",
            "start, test: Acc (each seed)",
            "reconstruction",
            "likelihood",
        ]
        tables.append(Table(f"Pretraining, {heading}, {describe_seeds(block)}", header, rows, provenance))
    return tables


def recipe_tables(metrics: Path) -> list[Table]:
    """Accuracy before and after the VaDE's training, with one step of the recipe taken away per row."""
    table = _read(metrics, RECIPE)
    if table.empty:
        return []
    tables = []
    for heading, block in _blocks(table):
        test = block[block["split"] == "test"]
        rows, provenance = [], []
        for row, part in sorted(test.groupby("row"), key=lambda pair: (not pair[0].endswith("/whole"), pair[0])):
            start, trained = (part[part["stage"] == stage] for stage in ("start", "vade"))
            accuracies = [_per_seed(start["accuracy"]), _per_seed(trained["accuracy"])]
            rows.append([row.split("/")[1], *accuracies, spread(100 * trained["nmi"], 1), spread(trained["elbo"], 1)])
            provenance.append(provenance_of(part, _file(RECIPE)))
        header = ["row", "start: Acc (each seed)", "after training: Acc (each seed)", "NMI", "bound"]
        title = f"Recipe, uniform prior, {heading}, test split, {describe_seeds(block)}"
        tables.append(Table(title, header, rows, provenance))
    return tables
