"""Table 2 (Markdown and LaTeX), the table of the learned weights and the studies: every block of the metrics."""

from __future__ import annotations

from pathlib import Path

from experiments.clustering.blocks import Block, read_blocks
from experiments.clustering.study_tables import pretraining_tables, recipe_tables
from experiments.clustering.tables import SPLITS, notes, table_2, weights_tables
from experiments.common.errors import ExperimentError
from experiments.common.latex import floats
from experiments.common.paper import read_paper

TABLE_2 = """\
# Table 2: clustering with three priors

Acc is the accuracy after the best matching of clusters and classes, NMI the normalised mutual information (arithmetic
mean of the entropies), ARI the adjusted Rand index. "80 %" and "60 %": that share of half of the classes is left. No
run saw a label before it was scored, and none was chosen by its score; the settings were fixed beforehand, by the
accuracy of other seeds on the training digits (clustering_recipe.md). "-": no run.
"""
STUDIES = """\
# What makes the clusters good, without labels

Accuracies in percent; the rows are files in `configs/experiment/clustering_pretraining` and `clustering_recipe`. Rows
of the pretraining other than `default` and `paper` have no guided epochs and differ from `no_guidance` in one setting.
"found": the clusters of the training digits, by the mixture; "start": the VaDE's before
the prior's own training. Reconstruction and bound in nats per digit; the likelihood is that of the mixture, per digit,
where it was fitted.
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


def table_2_markdown(blocks: list[Block]) -> str:
    """All blocks: two tables and how the numbers were made."""
    paper, parts = read_paper("table_2"), [TABLE_2]
    for block in blocks:
        parts.append(f"## {block.heading}\n")
        parts += [table_2(block, split, paper).markdown() for split in SPLITS]
        parts.append(notes(block))
    parts.append(f"The paper's numbers: {paper['place']}; {paper['what']}.\n")
    return "\n".join(parts)


def table_2_latex(blocks: list[Block]) -> str:
    """All blocks, as a file of floats."""
    paper = read_paper("table_2")
    return floats(table_2(block, split, paper) for block in blocks for split in SPLITS)


def weights_markdown(blocks: list[Block]) -> str:
    """All blocks, a table per dataset version."""
    parts = [WEIGHTS]
    for block in blocks:
        parts.append(f"## {block.heading}\n")
        parts += [table.markdown() for table in weights_tables(block)]
    return "\n".join(parts)


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
        blocks = read_blocks(metrics, profile)
        files = {
            "table_2.md": table_2_markdown(blocks),
            "table_2.tex": table_2_latex(blocks),
            "clustering_weights.md": weights_markdown(blocks),
        }
    studies = [*pretraining_tables(metrics), *recipe_tables(metrics)]
    if studies and only != "table_2":
        files["clustering_recipe.md"] = "\n".join([STUDIES, *(table.markdown() for table in studies)])
    if not files:
        raise ExperimentError(f"{metrics} holds no study: run `make clustering-studies SEEDS=100,101` first")
    return files
