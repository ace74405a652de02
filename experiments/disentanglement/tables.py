"""The numbers of Figure 11: disentanglement and downstream scores of every method and s."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.results import describe_commits, describe_seconds, ordered, provenance_of, spread
from experiments.tables import Table
from experiments.weak_supervision.blocks import DISENTANGLEMENT, Block, label, listed, read_blocks
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.tables import block_markdown

FIGURE_11 = """\
# The numbers of Figure 11

Scores of the representations by disentanglement_lib, 1 is best; downstream: adjusted balanced accuracy of linear
classifiers on all latents of single images.
"""
SCORES = {  # of the figure
    "beta_vae": "BetaVAE score",
    "factor_vae": "FactorVAE score",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "sap": "SAP",
    "modularity": "modularity",
    "downstream": "downstream accuracy",
}
OTHER_SCORES = {"dci_completeness": "DCI completeness", "dci_informativeness": "DCI informativeness"}


def scores(block: Block) -> pd.DataFrame:
    """Scores of a block's models, a line per run and score, with ``k``.

    Raises:
        ExperimentError: there are none.
    """
    table = block.table("metrics", DISENTANGLEMENT)
    return table.assign(k=block.num_factors - table["shared"])


def figure_11_table(block: Block) -> Table:
    """The numbers of Figure 11, a line for every method and s with a run."""
    table, names = scores(block), SCORES | OTHER_SCORES
    rows, provenance = [], []
    for method in ordered(table["method"], METHODS):
        for shared, part in table[table["method"] == method].groupby("shared"):
            cells = [spread(part.loc[part["score"] == score, "value"], 3) for score in names]
            rows.append([label(method), str(shared), *cells, str(part["seed"].nunique())])
            provenance.append(provenance_of(part, f"{DISENTANGLEMENT}_metrics.csv"))
    title = f"Figure 11 on {block.source}, {block.budget}: mean ± standard deviation over seeds"
    title += f"; examples to fit on: {samples(table)}"
    return Table(title, ["method", "s", *names.values(), "seeds"], rows, provenance)


def score_notes(block: Block) -> str:
    """Says how the scores were made."""
    runs = scores(block).drop_duplicates("run_id")
    lines = {
        "seeds": listed(runs["seed"]),
        "hardware": ", ".join(sorted(runs["device"].unique())),
        "time per run": describe_seconds(runs),
        "commit": describe_commits(runs),
    }
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())


def samples(table: pd.DataFrame) -> str:
    """How many examples the scores were fitted on."""
    dci = table["score"].str.startswith("dci_")
    return f"{listed(table.loc[~dci, 'samples'])}, of DCI {listed(table.loc[dci, 'samples'])}"


def tables(metrics: Path) -> dict[str, str]:
    """Returns the file of Figure 11's numbers, by name.

    Raises:
        ExperimentError: there are no scores.
    """
    return {"figure_11.md": block_markdown(FIGURE_11, read_blocks(metrics), figure_11_table, score_notes)}
