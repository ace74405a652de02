"""Table 2 (Markdown and LaTeX), the table of the learned weights and the studies: every block of the metrics."""

from __future__ import annotations

from pathlib import Path

from experiments.clustering.blocks import read_blocks
from experiments.clustering.studies import pretraining_tables, recipe_tables
from experiments.clustering.tables import SPLITS, notes, table_2, weights_tables
from experiments.results import read_paper
from experiments.settings import ExperimentError
from experiments.tables import floats

TABLE_2 = """\
# Table 2: clustering with three priors

Acc is the accuracy after the best matching of clusters and classes, NMI the normalised mutual information (arithmetic
mean of the entropies), ARI the adjusted Rand index. "80 %" and "60 %": that share of half of the classes is left. No
run saw a label before it was scored, and none was chosen by its score; the settings were fixed beforehand, by the
accuracy of other seeds on the training digits (clustering_recipe.md). "-": no run.
"""
STUDIES = """\
# What makes the clusters good, without labels

Accuracies in percent; the recipes are files in `configs/recipe`. Those of the pretraining other than `whole` and
`paper` have no guided epochs and differ from `no_guidance` in one setting. "found": the clusters of the training
digits, by the mixture; "start": the VaDE's before the prior's own training. Reconstruction and bound in nats per digit;
the likelihood is that of the mixture, per digit, where it was fitted.
"""
WEIGHTS = """\
# Learned weights against the class frequencies

For each cluster, the share of the digits that its learned weight expects (E[x_k] / n; for merged conditionals, what the
exact law expects with weights learned through the merged one) and the share of the training digits assigned to it,
against the frequency of the class that it is matched to. Rank correlation: Spearman's; errors in percentage points.
Where no class was cut, all frequencies are nearly equal and their order means little; "undefined": one side has no
order at all. Where the true frequencies take two values, five classes each, 0.87 is the largest rank correlation that
estimates without ties can reach.
"""
ONLY = ("table_2", "studies")


def contents(metrics: Path, profile: str | None, only: str | None) -> dict[str, str]:
    """Returns the files by name; the studies where they were run.

    Args:
        metrics: folder of CSVs.
        profile: profile to take; None for every one.
        only: one of ``ONLY``; None for what there is.

    Raises:
        ExperimentError: there is no run of the profile, or none of the studies that were asked for.
    """
    files: dict[str, str] = {}
    if only != "studies":
        files = _table_2(metrics, profile)
    studies = [*pretraining_tables(metrics), *recipe_tables(metrics)]
    if studies and only != "table_2":
        files["clustering_recipe.md"] = "\n".join([STUDIES, *(table.markdown() for table in studies)])
    if not files:
        raise ExperimentError(f"{metrics} holds no study: run `make clustering-studies SEEDS=100,101` first")
    return files


def _table_2(metrics: Path, profile: str | None) -> dict[str, str]:
    blocks, paper = read_blocks(metrics, profile), read_paper("table_2")
    tables, weights, latex = [TABLE_2], [WEIGHTS], []
    for block in blocks:
        heading = f"## {block.heading}\n"
        of_splits = [table_2(block, split, paper) for split in SPLITS]
        tables += [heading, *(table.markdown() for table in of_splits), notes(block)]
        weights += [heading, *(table.markdown() for table in weights_tables(block))]
        latex += of_splits
    tables.append(f"The paper's numbers: {paper['place']}; {paper['what']}.\n")
    return {
        "table_2.md": "\n".join(tables),
        "table_2.tex": floats(latex),
        "clustering_weights.md": "\n".join(weights),
    }
