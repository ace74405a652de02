"""Table 1 (Markdown and LaTeX), the numbers of Figures 2 and 11, the ablations and Table 3, block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.common.errors import ExperimentError
from experiments.common.latex import floats
from experiments.common.paper import read_paper
from experiments.common.tables import Table
from experiments.disentanglement.pages import figure_11_table, score_notes
from experiments.weak_supervision.ablation import ablation_runs, ablation_table
from experiments.weak_supervision.blocks import ROOM, Block, read_blocks
from experiments.weak_supervision.runtimes import read_benchmark, table_3
from experiments.weak_supervision.tables import figure_2_table, notes, table_1

TABLE_1 = """\
# Table 1: what the shared and the independent latents tell of the factors

S: shared factors from the shared latents; I: independent factors from each view's independent latents. Logistic
regression on posterior means; balanced accuracy, adjusted so that guessing scores 0, averaged over the factors. s is
the number of shared factors of a pair; without any (s = 0) there is no S. "-": no run.
"""
FIGURE_2 = """\
# The numbers of Figure 2

k = 7 - s is the true number of independent factors, k-hat that of independent latents of d. E[k-hat]: the mean under
the method's law and over the test pairs. "One draw" has the law's own variance in it, whatever the estimator is.
"Literal": the number of shared latents against s. An active latent's posterior mean varies over the images (variance
above 0.01). The bound per view counts the divergence of a shared latent in both views, the joint bound once; both on
test pairs.
"""
FIGURE_11 = """\
# The numbers of Figure 11

Scores of the representations by disentanglement_lib, 1 is best; downstream: adjusted balanced accuracy of linear
classifiers on all latents of single images.
"""
ABLATION = """\
# What the methods depend on

Each line changes what it says about the method above it; the rows are files in
`configs/experiment/weak_supervision_ablation`. Columns as in figure_2.md and table_1.md.
"""
TABLE_3 = """\
# Table 3: what a training step costs

Ours: median seconds per step, the methods side by side in one run, on the hardware of the benchmark.
"""
ONLY = ("table_1", "figure_2", "figure_11", "ablation", "table_3")
MakeTable = Callable[[Block], Table]
MakeNotes = Callable[[Block], str]


def block_markdown(title: str, blocks: list[Block], make: MakeTable, explain: MakeNotes = notes) -> str:
    """All blocks that the table has runs of, and how their numbers were made.

    Raises:
        ExperimentError: there is no such block.
    """
    parts, reasons = [title], []
    for block in blocks:
        try:
            table = make(block).markdown()
        except ExperimentError as error:
            reasons.append(str(error))
            continue
        parts += [f"## {block.heading}\n", table, explain(block)]
    if len(parts) == 1:
        raise ExperimentError("; ".join(reasons))
    return "\n".join(parts)


def _table_1(block: Block) -> Table:
    return table_1(block, read_paper("table_1"))


def _ablation_notes(block: Block) -> str:
    return notes(block, ablation_runs(block))


def _table_1_files(blocks: list[Block]) -> dict[str, str]:
    paper = read_paper("table_1")
    legend = f"\nThe paper's numbers: {paper['place']}; {paper['what']}.\n"
    return {
        "table_1.md": block_markdown(TABLE_1, blocks, _table_1) + legend,
        "table_1.tex": floats(_table_1(block) for block in blocks),
    }


def _table_3_files(path: Path) -> dict[str, str]:
    paper = read_paper("table_3")
    tables = table_3(read_benchmark(path), paper)
    legend = f"The paper's numbers: {paper['place']}; {paper['what']}.\n"
    return {
        "table_3.md": "\n".join([TABLE_3, *(table.markdown() for table in tables), legend]),
        "table_3.tex": floats(tables),
    }


def contents(metrics: Path, benchmark: Path, profile: str | None, only: str | None) -> dict[str, str]:
    """Returns the files by name; what there are no runs for is named and left out.

    Args:
        metrics: folder of CSVs.
        benchmark: CSV of the benchmark.
        profile: profile to take; None for every one.
        only: one of ``ONLY``; None for what there is.

    Raises:
        ExperimentError: there is nothing to write, or not what was asked for.
    """

    def blocks() -> list[Block]:
        return read_blocks(metrics, profile)

    makers: dict[str, Callable[[], dict[str, str]]] = {
        "table_1": lambda: _table_1_files(blocks()),
        "figure_2": lambda: {"figure_2.md": block_markdown(FIGURE_2, blocks(), figure_2_table)},
        "figure_11": lambda: {"figure_11.md": block_markdown(FIGURE_11, blocks(), figure_11_table, score_notes)},
        "ablation": lambda: {
            f"{ROOM}_ablation.md": block_markdown(ABLATION, blocks(), ablation_table, _ablation_notes),
        },
        "table_3": lambda: _table_3_files(benchmark),
    }
    if only:
        return makers[only]()
    files, reasons = dict[str, str](), list[str]()
    for name, make in makers.items():
        try:
            files |= make()
        except ExperimentError as error:
            reasons.append(f"{name}: {error}")
    if not files:
        raise ExperimentError(f"nothing to write: {'; '.join(reasons)}")
    for reason in reasons:
        print(f"not written: {reason}")
    return files
