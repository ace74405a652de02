"""What the page shows of each room: a heading, a sentence or two, tables, figures, charts.

A part whose files are not there is left out and named with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from experiments.benchmark.tables import benchmark_provenance, comparison_table
from experiments.clustering import blocks as clustering_blocks
from experiments.clustering.study_tables import pretraining_tables, recipe_tables
from experiments.clustering.tables import METRICS_FILE as CLUSTERING_FILE
from experiments.clustering.tables import SPLITS, table_2, weights_tables
from experiments.common.errors import ExperimentError
from experiments.common.figures import read_table
from experiments.common.paper import read_paper
from experiments.common.provenance import Provenance, provenance_of
from experiments.disentanglement.pages import figure_11_table, scores
from experiments.gradient_study import figure as gradient_figure
from experiments.gradient_study.table import EXPLANATION, case_table, worst_table
from experiments.kolmogorov_smirnov.tables import rejections_table
from experiments.report.plots import count_chart, distance_chart, weights_chart
from experiments.report.section import Inputs, Section
from experiments.urn.tables import recovery_table
from experiments.weak_supervision import blocks as weak_blocks
from experiments.weak_supervision.ablation import ablation_table
from experiments.weak_supervision.runtimes import benchmark_file, read_benchmark, table_3
from experiments.weak_supervision.tables import METRICS_FILE as WEAK_FILE
from experiments.weak_supervision.tables import figure_2_table, table_1


def _kolmogorov_smirnov(inputs: Inputs) -> Section:
    section = Section(
        "kolmogorov-smirnov",
        "Kolmogorov-Smirnov tests",
        "Section 5.1 and Appendix C.1. Draws of the differentiable sampler are tested against a reference. The paper's "
        "reference merges groups as its sampler does; here the exact law stands beside it.",
    )
    runs = read_table(inputs.metrics, "kolmogorov_smirnov_metrics")
    made = provenance_of(runs, "kolmogorov_smirnov_metrics.csv")
    section.chart("distances", partial(distance_chart, runs))
    figures = {
        1: "Figure 1: counts of group 2 and the tests, over the weight of group 2.",
        4: "Figure 4: counts of groups 1 and 3, over the weight of group 2.",
        9: "Figure 9: counts and tests over the number of draws n.",
        10: "Figure 10: counts and tests over the size of group 2.",
    }
    for number, caption in figures.items():
        section.picture(inputs.figures / f"figure_{number}.png", caption, made)
    section.table("tests", partial(rejections_table, runs))
    return section


def _urn(inputs: Inputs) -> Section:
    section = Section(
        "urn",
        "Recovering the weights of an urn",
        "Appendix B.5.1. Log weights are learned from counts by gradient descent, with the paper's merged conditionals "
        "and with exact ones, beside the exact maximum of the likelihood.",
    )
    runs = read_table(inputs.metrics, "urn_metrics", every_seed=True)
    made = provenance_of(runs, "urn_metrics.csv")
    for name, caption in {
        "figure_7": "Figure 7: training and validation loss over the steps.",
        "figure_8": "Figure 8: learned log weights over the steps, and the truth at the right edge.",
        "urn_recovery": "How far from the truth every estimator ends.",
    }.items():
        section.picture(inputs.figures / f"{name}.png", caption, made)
    section.table("recovery", partial(recovery_table, runs))
    return section


def _weak_supervision(inputs: Inputs) -> Section:
    section = Section(
        "weak-supervision",
        "Weak supervision on pairs of images",
        "Section 5.2 and Appendix C.2. The two images of a pair share s of seven factors; a method must find out how "
        "many latents, and which, are independent. EvidenceHGVAE is ours and not in the paper.",
    )
    paper, runtimes = read_paper("table_1"), read_paper("table_3")
    for block in weak_blocks.read_blocks(inputs.metrics):
        made = provenance_of(block.metrics, WEAK_FILE)
        section.chart("numbers of independent latents", partial(count_chart, block))
        section.table("Table 1", partial(table_1, block, paper), paper["place"])
        section.table("Figure 2", partial(figure_2_table, block))
        for name, caption in {
            "figure_2": "Figure 2: squared error of the number of independent latents over s.",
            "weak_supervision_bounds": "What the bounds of trained models know of the number of independent latents.",
            "weak_supervision_traversals": "Latent traversals: one latent moves along a row, the others stay.",
            "weak_supervision_reconstructions": "Pairs of images and their reconstructions.",
            "figure_13": "Figure 13: HGVAE over the final temperature and the learning rate.",
        }.items():
            origin = _ablation_provenance(block, made) if name == "figure_13" else made
            section.picture(inputs.figures / f"{name}_{block.suffix}.png", f"{caption} {block.heading}.", origin)
        section.table("ablations", partial(ablation_table, block))
    benchmark = benchmark_file(inputs.metrics)
    section.table(
        "Table 3",
        lambda: table_3(read_benchmark(benchmark), runtimes, benchmark_provenance(benchmark.with_suffix(".json"))),
        runtimes["place"],
    )
    return section


def _ablation_provenance(block: weak_blocks.Block, made: Provenance) -> Provenance:
    """Of Figure 13, which compares variants with the row itself."""
    own = block.runs("hgvae", 3)
    try:
        variants = block.of_room(weak_blocks.ABLATION, "metrics")
    except ExperimentError:
        return made
    shown = variants[variants["row"].str.contains("final_temperature|learning_rate")]
    return provenance_of(pd.concat([shown, own]), f"{weak_blocks.ABLATION}_metrics.csv, {WEAK_FILE}")


def _disentanglement(inputs: Inputs) -> Section:
    section = Section(
        "disentanglement",
        "Disentanglement scores",
        "Appendix C.2. Published scores of the representations of the models above, 1 is best.",
    )
    for block in weak_blocks.read_blocks(inputs.metrics):
        try:
            made = provenance_of(scores(block), "disentanglement_metrics.csv")
        except ExperimentError as error:
            section.missing.append(f"Figure 11: {error}")
            continue
        caption = f"Figure 11: scores over the number of independent factors. {block.heading}."
        section.picture(inputs.figures / f"figure_11_{block.suffix}.png", caption, made)
        section.table("Figure 11", partial(figure_11_table, block))
    return section


def _clustering(inputs: Inputs) -> Section:
    section = Section(
        "clustering",
        "Clustering with three priors",
        "Section 5.3 and Appendix C.3. A variational deep embedding clusters digits, all of them or with half of the "
        "classes cut to 80 or 60 %, with a uniform, a categorical and a hypergeometric prior.",
    )
    paper = read_paper("table_2")
    for block in clustering_blocks.read_blocks(inputs.metrics):
        made = provenance_of(block.metrics, CLUSTERING_FILE)
        for split in SPLITS:
            section.table("Table 2", partial(table_2, block, split, paper), paper["place"])
        section.chart("learned weights", partial(weights_chart, block))
        for name, caption in {
            "figure_3": "Figure 3: learned weights beside the frequencies of the classes.",
            "clustering_digits": "Digits that each cluster generates.",
            "clustering_confusion": "Clusters against classes on the test digits.",
            "clustering_latent": "The latent space, by class.",
            "clustering_history": "Bound and test accuracy over the epochs.",
        }.items():
            section.picture(inputs.figures / f"{name}_{block.suffix}.png", f"{caption} {block.heading}.", made)
        section.table("learned weights", partial(weights_tables, block))
    section.table("studies", lambda: [*pretraining_tables(inputs.metrics), *recipe_tables(inputs.metrics)])
    return section


def _gradients(inputs: Inputs) -> Section:
    section = Section("gradients", "Gradients through the draws", f"Ours. {EXPLANATION}")
    path = inputs.metrics / "gradient_study.csv"
    try:
        study = gradient_figure.read(path)
    except (OSError, ValueError) as error:
        reason = f"{path} can't be read" if path.exists() else f"{path} does not exist"
        raise ExperimentError(f"{reason}: run `make gradient-study` first") from error
    table = worst_table(study)
    caption = "Error and spread of the gradient over the temperature."
    if not table.provenance or table.provenance[0] is None:
        raise ExperimentError(f"{path} does not say what made it: run `make gradient-study` again")
    section.picture(inputs.figures / "gradient_study.png", caption, table.provenance[0])
    section.table("temperatures", lambda: table)
    section.table("cases", partial(case_table, study))
    return section


def _speed(inputs: Inputs) -> Section:
    section = Section("speed", "Speed", "Ours. Both sides of a comparison are measured in turns, in one run.")
    for name, title in {
        "benchmark": "The distribution beside the authors' code, BiasedUrn and NumPy",
        "clustering": "Training of the clustering model beside a plain loop, and several seeds at once",
    }.items():
        section.table(name, partial(comparison_table, inputs.benchmark, name, title))
    return section


MAKERS: dict[str, Callable[[Inputs], Section]] = {
    "Kolmogorov-Smirnov tests": _kolmogorov_smirnov,
    "urn": _urn,
    "weak supervision": _weak_supervision,
    "disentanglement": _disentanglement,
    "clustering": _clustering,
    "gradients": _gradients,
    "speed": _speed,
}


def sections(inputs: Inputs) -> tuple[list[Section], list[str]]:
    """Returns the sections that have something to show, and what is left out and why."""
    shown, missing = [], []
    for name, make in MAKERS.items():
        try:
            section = make(inputs)
        except ExperimentError as error:
            missing.append(f"{name}: {error}")
            continue
        missing += [f"{name}, {reason}" for reason in section.missing]
        if section.parts:
            shown.append(section)
    return shown, missing
