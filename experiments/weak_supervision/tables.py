"""The files of Table 1 (Markdown and LaTeX), of the numbers of Figure 2, of the ablations and of Table 3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from experiments.results import read_paper
from experiments.settings import ExperimentError, named_problems
from experiments.tables import Table, floats
from experiments.weak_supervision.ablation import ablation_runs, ablation_table
from experiments.weak_supervision.blocks import Block, read_blocks
from experiments.weak_supervision.fixed_set import agreement, fixed_set_block, fixed_set_table
from experiments.weak_supervision.imposed import imposed_runs, preferred_table
from experiments.weak_supervision.random_pairs import TITLE, random_blocks, random_table
from experiments.weak_supervision.runtimes import benchmark_file, read_benchmark, table_3
from experiments.weak_supervision.table_1 import figure_2_table, notes, table_1

TABLE_1 = """\
# Table 1: what the shared and the independent latents tell of the factors

S: shared factors from the shared latents; I: independent factors from each view's independent latents. Logistic
regression on posterior means; balanced accuracy, adjusted so that guessing scores 0, averaged over the factors. s is
the number of shared factors of a pair; without any (s = 0) there is no S. "-": no run.
"""
FIGURE_2 = """\
# The numbers of Figure 2

k = 7 - s is the true number of independent factors, k-hat that of independent latents of d. E[k-hat]: the mean under
the method's law and over the test pairs. "Scaled": of E[k-hat] times 7 / d, which needs no latent per factor. "One
draw" has the law's own variance in it, whatever the estimator is. "Literal": the number of shared latents against s. An
active latent's posterior mean varies over the images (variance above 0.01). The bound per view counts the divergence of
a shared latent in both views, the joint bound once; both on test pairs. A: numbers of active independent, active shared
and inactive latents. T: of the latents whose two posteriors lie apart (means by two standard deviations of a draw's
difference) where no factor is shared, the share that does in these pairs, times 7; no method chooses anything for it.
Where each factor has latents of its own T is k; where latents hold parts of several factors it is larger. A and T were
not counted in the first runs: "(2 of 5)" says in how many seeds they were.
"""
FIXED_SET = """\
# The same where the first s factors, in mpi3d's order, are the shared ones of all pairs

Our inference from the paper's legible line, not what it says; without shared factors (s = 0) the runs are the same.
"""
PREFERRED = """\
# The number that the bound itself prefers

Models trained with k imposed, for every k: the k of the largest joint bound on test pairs, that bound in nats per
image, and how much lower it is with one independent latent less or more, with none and with all. An estimator of k can
be held to it, within what the bound varies between seeds.
"""
ABLATION = """\
# What the methods depend on

Each line changes what it says about the method above it: settings given beside the axes, such as
`experiment.training.final_temperature=0.1`. Columns as in figure_2.md and table_1.md.
"""
TABLE_3 = """\
# Table 3: what a training step costs

Ours: median seconds per step, the methods side by side in one run, on the hardware of the benchmark.
"""


def block_markdown(
    title: str,
    blocks: list[Block],
    make: Callable[[Block], Table],
    explain: Callable[[Block], str] = notes,
) -> str:
    """All blocks that the table has runs of, and how their numbers were made.

    Raises:
        ExperimentError: there is no such block.
    """
    parts, reasons = [title], []
    for block in blocks:
        try:
            parts += [f"## {block.heading}\n", make(block).markdown(), explain(block)]
        except ExperimentError as error:
            reasons.append(str(error))
    if len(parts) == 1:
        raise ExperimentError("; ".join(reasons) or "the metrics hold no run whose pairs share one number of factors")
    return "\n".join(parts)


def tables(metrics: Path) -> dict[str, str]:
    """Returns the content of the room's files of tables, by name; what there are no runs for is named and left out.

    Args:
        metrics: folder of CSVs; the benchmark's lies beside it.

    Raises:
        ExperimentError: there is nothing to write.
    """
    files, reasons = dict[str, str](), list[str]()
    for make in (_table_1, _figure_2, _random, _ablation, _table_3):
        with named_problems(make.__name__.removeprefix("_"), reasons):
            files |= make(metrics)
    if not files:
        raise ExperimentError("; ".join(dict.fromkeys(reasons)))
    for reason in reasons:
        print(f"not written: {reason}")
    return files


def _table_1(metrics: Path) -> dict[str, str]:
    blocks, paper = read_blocks(metrics), read_paper("table_1")

    def fixed_set(block: Block) -> str:
        fixed = fixed_set_block(block)
        return f"{notes(fixed, fixed.metrics)}\n{agreement(block, paper)}"

    text = block_markdown(TABLE_1, blocks, lambda block: table_1(block, paper))
    with suppress(ExperimentError):  # a study beside the table, which is not always run
        text += "\n" + block_markdown(FIXED_SET, blocks, lambda block: fixed_set_table(block, paper), fixed_set)
    legend = f"\nThe paper's numbers: {paper['place']}; {paper['what']}.\n"
    return {"table_1.md": text + legend, "table_1.tex": floats(table_1(block, paper) for block in blocks)}


def _figure_2(metrics: Path) -> dict[str, str]:
    def explain(block: Block) -> str:
        return notes(block, imposed_runs(block))

    blocks = read_blocks(metrics)
    text = block_markdown(FIGURE_2, blocks, figure_2_table)
    with suppress(ExperimentError):
        text += "\n" + block_markdown(PREFERRED, blocks, preferred_table, explain)
    return {"figure_2.md": text}


def _random(metrics: Path) -> dict[str, str]:
    def explain(block: Block) -> str:
        return notes(block, block.metrics)

    return {"weak_supervision_random.md": block_markdown(TITLE, random_blocks(metrics), random_table, explain)}


def _ablation(metrics: Path) -> dict[str, str]:
    def explain(block: Block) -> str:
        return notes(block, ablation_runs(block))

    return {"weak_supervision_ablation.md": block_markdown(ABLATION, read_blocks(metrics), ablation_table, explain)}


def _table_3(metrics: Path) -> dict[str, str]:
    paper = read_paper("table_3")
    tables = table_3(read_benchmark(benchmark_file(metrics)), paper)
    legend = f"The paper's numbers: {paper['place']}; {paper['what']}.\n"
    text = "\n".join([TABLE_3, *(table.markdown() for table in tables), legend])
    return {"table_3.md": text, "table_3.tex": floats(tables)}
