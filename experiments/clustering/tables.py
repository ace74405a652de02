"""Table 2, the table of the learned weights and the studies, from the collected metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.clustering.blocks import DATA, PAPER_PRIORS, PAPER_VERSIONS, VERSIONS, Block, paired, read_blocks
from experiments.clustering.recovery import ESTIMATES, recovery
from experiments.clustering.studies import control_tables, study_tables
from experiments.results import (
    Provenance,
    describe_commits,
    describe_seconds,
    describe_seeds,
    paper_value,
    provenance_of,
    read_paper,
    spread,
)
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table, floats

SCORES = {"accuracy": "Acc", "nmi": "NMI", "ari": "ARI"}
SPLITS = {"test": "whole test split", "test_subsampled": "test split cut like the training split"}
START, START_NAME = "start", "start: where the VaDE's training begins"
METRICS_FILE, WEIGHTS_FILE = "clustering_metrics.csv", "clustering_weights.csv"


TABLE_2 = """\
# Table 2: clustering with three priors

Acc is the accuracy after the best matching of clusters and classes, NMI the normalised mutual information (arithmetic
mean of the entropies), ARI the adjusted Rand index. "80 %" and so on: that share of half of the classes is left.
Two recipes: that of VaDE and the paper (`vade`), and ours, which starts from UMAP (`n2d`). No run saw a label before it
was scored, and none was chosen by its score; the guidance of `n2d` was chosen in a trial on another seed of MNIST
(docs/clustering.md). Seeds are those that the paper's priors of a version share (all, where they share none). "-": no
run.
"""
STUDIES = """\
# Studies of the clustering

Accuracies in percent, bound in nats per digit. "Settings changed": runs with settings other than a recipe's own.
The terms are those of the test digits after training, in nats: a lower entropy of q(c) is a wider margin.
"Control": the VaDE from the true blobs and equal weights, encoder fixed; "best classifier" knows blobs and sizes,
"gain" is what it loses by taking the sizes for equal. Both and "Acc" are of test digits cut like the training digits;
"whole split" is of all test digits, where classes are of one size, as Table 2 is judged. "Above uniform" is the mean
paired difference over the seeds with its standard error, in points: of three seeds 4.3 of these, of five 2.8, are the
95 % interval by Student's t (a changed run is compared with the uniform prior under the same changes, or else with its
own settings); "error" is the mean of |learned / true size - 1| in percent, about 250 for equal weights at 10:1.
"""
WEIGHTS = """\
# Learned weights against the class frequencies

For each cluster, the share of the digits that its learned weight expects (E[x_k] / n; for merged conditionals, what the
exact law expects with weights learned through the merged one) and the share of the training digits assigned to it,
against the frequency of the class that it is matched to. Rank correlation: Spearman's; errors in percentage points.
Where no class was cut, all frequencies are nearly equal and their order means little; "undefined": one side has no
order at all. Where the true frequencies take two values, five classes each, 0.87 is the largest rank correlation that
estimates without ties can reach. Seeds are those that the paper's priors of a version share (all, where they share
none).
"""


def tables(metrics: Path) -> dict[str, str]:
    """Returns the files by name: Table 2 (Markdown, LaTeX), the learned weights, and the studies where they were run.

    Raises:
        ExperimentError: there is no run.
    """
    files: dict[str, str] = {}
    studies = [*study_tables(metrics), *control_tables(metrics)]
    if studies:
        files["clustering_studies.md"] = "\n".join([STUDIES, *(table.markdown() for table in studies)])
    try:
        blocks = read_blocks(metrics)
    except ExperimentError:  # only studies were run
        if files:
            return files
        raise
    paper, text, weights, latex = read_paper("table_2"), [TABLE_2], [WEIGHTS], []
    for block in blocks:
        heading = f"## {block.heading}\n"
        of_splits = [table_2(block, split, paper) for split in SPLITS]
        text += [heading, *(table.markdown() for table in of_splits), notes(block)]
        weights += [heading, *(table.markdown() for table in weights_tables(block))]
        latex += of_splits
    text.append(f"The paper's numbers: {paper['place']}; {paper['what']}.\n")
    return files | {
        "table_2.md": "\n".join(text),
        "table_2.tex": floats(latex),
        "clustering_weights.md": "\n".join(weights),
    }


def table_2(block: Block, split: str, paper: Mapping[str, Any]) -> Table:
    """Scores of every prior on every dataset version.

    Args:
        block: one profile on one data set.
        split: a key of ``SPLITS``.
        paper: the paper's numbers, for the whole test split.
    """
    versions = {version: VERSIONS[version] for version in PAPER_VERSIONS} | block.versions
    scores, start = (paired(block.scores(split, stage)) for stage in ("vade", START))
    lines = {name: scores[scores["prior"] == name] for name in PAPER_PRIORS}
    lines |= {f"ours: {name}": scores[scores["prior"] == name] for name in block.priors if name not in PAPER_PRIORS}
    lines[START_NAME] = start.drop_duplicates(["version", "seed"])  # the priors start alike
    rows = [[name, *_cells(part, versions)] for name, part in lines.items()]
    provenance: list[Provenance | None] = [provenance_of(part, METRICS_FILE) for part in lines.values()]
    if split == "test":
        shown: dict[tuple[str, ...], list[str]] = {}  # priors with the same cells share a line
        for name in PAPER_PRIORS:
            shown.setdefault(tuple(_paper_cells(paper[name], versions)), []).append(name)
        rows += [[f"paper: {', '.join(names)}", *cells] for cells, names in shown.items()]
        provenance += [None] * len(shown)
    header = ["prior"]
    for version in versions.values():
        header += [f"{version}: Acc", "NMI", "ARI", "seeds"]
    digits = sorted(scores["digits"].unique())
    count = f"{digits[0]:,}" + (f" to {digits[-1]:,}" if len(digits) > 1 else "") if digits else "no"
    title = (
        f"Table 2 on {block.source}, {SPLITS[split]} ({count} digits): percent, mean ± standard deviation over seeds"
    )
    return Table(title, header, rows, provenance)


def _cells(scores: pd.DataFrame, versions: Iterable[str]) -> list[str]:
    """Scores and number of seeds for every version."""
    cells = []
    for version in versions:
        part = scores[scores["version"] == version]
        cells += [spread(100 * part[score], 1) for score in SCORES]
        cells.append(str(part["seed"].nunique()) if len(part) else NOTHING)
    return cells


def _paper_cells(values: Mapping[str, Any], versions: Iterable[str]) -> list[str]:
    """The paper's scores of one prior."""
    cells = []
    for version in versions:
        shown = version in values  # the others are ours
        cells += [paper_value(values[version][score], 1) if shown else NOTHING for score in SCORES]
        cells.append("5" if shown else NOTHING)
    return cells


def notes(block: Block) -> str:
    """Says how a block's numbers were made."""
    runs = paired(block.scores()).drop_duplicates("run_id")
    time, known = describe_seconds(runs), runs["seconds"].notna().any()
    lines = {
        "data": DATA.get(block.data, block.data),
        "profile": block.profile,
        "epochs": ", ".join(str(epochs) for epochs in sorted(runs["epochs"].unique())),
        "seeds": describe_seeds(runs).split(" ", 1)[1],
        "pretraining": ", ".join(sorted(runs["pretraining"].unique())),
        "hardware": ", ".join(sorted(runs["device"].unique())),
        "time per run": f"{time}; the first prior of a version and seed also pretrains" if known else time,
        "commit": describe_commits(runs),
    }
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())


def weights_tables(block: Block) -> list[Table]:
    """A table per dataset version: how near learned weights and cluster sizes are to the class frequencies."""
    runs, scores = paired(recovery(block.table("weights"))), paired(block.scores())
    header = ["prior", "seeds"]
    for name in ESTIMATES.values():
        header += [f"{name}: rank correlation", "MAE", "RMSE"]
    tables = []
    for version, version_name in block.versions.items():
        rows, provenance = [], []
        for prior in block.priors:
            part = runs[(runs["prior"] == prior) & (runs["version"] == version)]
            if len(part):
                cells = [cell for name in ESTIMATES for cell in _recovery_cells(part[part["estimate"] == name])]
                rows.append([prior, str(part["seed"].nunique()), *cells])
                made = scores[(scores["prior"] == prior) & (scores["version"] == version)]
                provenance.append(provenance_of(made, WEIGHTS_FILE))
        title = f"{version_name}, {block.source}: mean ± standard deviation over seeds"
        tables.append(Table(title, header, rows, provenance))
    return tables


def _recovery_cells(runs: pd.DataFrame) -> list[str]:
    """Rank correlation and errors of one estimate; errors in percentage points."""
    defined = runs["rank_correlation"].dropna()
    rank = spread(defined, 2) if len(defined) else "undefined"
    if 0 < len(defined) < len(runs):
        rank += f" ({len(defined)} of {len(runs)})"
    return [rank, *(spread(100 * runs[f"{kind}_error"], 2) for kind in ("mean_absolute", "root_mean_square"))]
