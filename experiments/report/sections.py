"""What the page shows of each room: a heading, a sentence or two, tables, figures, charts.

A part whose files are not there is left out and named with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.clustering import blocks as clustering_blocks
from experiments.clustering.studies import control_tables, study_tables
from experiments.clustering.tables import METRICS_FILE as CLUSTERING_FILE
from experiments.clustering.tables import SPLITS, table_2, weights_tables
from experiments.disentanglement.tables import figure_11_table, scores
from experiments.gradient_study import figures as gradient_figures
from experiments.gradient_study.tables import EXPLANATION, case_table, worst_table
from experiments.kolmogorov_smirnov.tables import read_tests, rejections_table
from experiments.report.plots import count_chart, distance_chart, weights_chart
from experiments.report.section import Section
from experiments.results import provenance_of, read_largest, read_paper
from experiments.settings import ExperimentError, named_problems
from experiments.speed.tables import benchmark_provenance, committed_table
from experiments.urn.tables import recovery_table
from experiments.weak_supervision import blocks as weak_blocks
from experiments.weak_supervision.ablation import ablation_table
from experiments.weak_supervision.fixed_set import fixed_set_table
from experiments.weak_supervision.imposed import preferred_table
from experiments.weak_supervision.random_pairs import random_blocks, random_table
from experiments.weak_supervision.runtimes import benchmark_file, read_benchmark, table_3
from experiments.weak_supervision.table_1 import figure_2_table, table_1

WEAK_FILE = "weak_supervision_metrics"


def sections(metrics: Path, figures: Path) -> tuple[list[Section], list[str]]:
    """Returns the sections that have something to show, and what is left out and why.

    Args:
        metrics: Folder of the CSVs; that of the benchmarks lies beside it.
        figures: Folder of the figures.
    """
    shown: list[Section] = []
    missing: list[str] = []
    for name, make in MAKERS.items():
        with named_problems(name, missing):
            section = make(metrics, figures)
            missing += [f"{name}, {reason}" for reason in section.missing]
            if section.parts:
                shown.append(section)
    return shown, missing


def _kolmogorov_smirnov(metrics: Path, figures: Path) -> Section:
    section = Section(
        "kolmogorov-smirnov",
        "Kolmogorov-Smirnov tests",
        "Section 5.1 and Appendix C.1. Draws of the differentiable sampler are tested against a reference. The paper's "
        "reference merges groups as its sampler does; here the exact law stands beside it.",
    )
    tests = read_tests(metrics)
    made = provenance_of(tests[tests["experiment"] == "kolmogorov_smirnov"], "kolmogorov_smirnov_metrics.csv")
    section.add("distances", partial(distance_chart, tests))
    captions = {
        "figure_1": "Figure 1: counts of group 2 and the tests, over the weight of group 2.",
        "figure_4": "Figure 4: counts of groups 1 and 3, over the weight of group 2.",
        "figure_9": "Figure 9: counts and tests over the number of draws n.",
        "figure_10": "Figure 10: counts and tests over the size of group 2.",
    }
    section.add_pictures(figures, captions, made)
    section.add("tests", partial(rejections_table, tests))
    return section


def _urn(metrics: Path, figures: Path) -> Section:
    section = Section(
        "urn",
        "Recovering the weights of an urn",
        "Appendix B.5.1. Log weights are learned from counts by gradient descent, with the paper's merged conditionals "
        "and with exact ones, beside the exact maximum of the likelihood.",
    )
    lines = read_largest(metrics, "urn_metrics")
    captions = {
        "figure_7": "Figure 7: training and validation loss over the steps.",
        "figure_8": "Figure 8: learned log weights over the steps, and the truth at the right edge.",
        "urn_recovery": "How far from the truth every estimator ends.",
    }
    section.add_pictures(figures, captions, provenance_of(lines, "urn_metrics.csv"))
    section.add("recovery", partial(recovery_table, lines))
    return section


def _weak_supervision(metrics: Path, figures: Path) -> Section:
    section = Section(
        "weak-supervision",
        "Weak supervision on pairs of images",
        "Section 5.2 and Appendix C.2. The two images of a pair share s of seven factors; a method must find out how "
        "many latents, and which, are independent. PosteriorHGVAE is ours and not in the paper.",
    )
    paper, runtimes = read_paper("table_1"), read_paper("table_3")
    for block in weak_blocks.read_blocks(metrics):
        ending, made = f"_{block.suffix}", provenance_of(block.metrics, f"{WEAK_FILE}.csv")
        section.add("numbers of independent latents", partial(count_chart, block))
        section.add("Table 1", partial(table_1, block, paper), paper["place"])
        section.add("Figure 2", partial(figure_2_table, block))
        captions = {
            "figure_2": "Figure 2: squared error of the number of independent latents over s.",
            "weak_supervision_bounds": "What the bounds of trained models know of the number of independent latents.",
            "weak_supervision_counts": "The number of factors that differ, what the bound prefers, and the estimates.",
            "weak_supervision_confusion": "Estimates pair by pair where each pair shares another number of factors.",
            "weak_supervision_drift": "How HGVAE's number of independent latents moves in training.",
            # The traversals are not on the page: they would be a third of it.
            "weak_supervision_reconstructions": "Pairs and what the decoders make of their posterior means.",
        }
        captions = {name: f"{caption} {block.heading}." for name, caption in captions.items()}
        section.add_pictures(figures, captions, made, ending)
        caption = f"Figure 13: HGVAE over the final temperature and the learning rate. {block.heading}."
        lines = block.table("metrics", changes=True).query("method == 'hgvae' and shared == 3")
        changed = lines["changes"].str.fullmatch(r"(training\.(final_temperature|learning_rate)=\S+)?")
        made = provenance_of(lines[changed], f"{WEAK_FILE}.csv")
        section.add_pictures(figures, {"figure_13": caption}, made, ending)
        section.add("ablations", partial(ablation_table, block))
        section.add("the number that the bound prefers", partial(preferred_table, block))
        section.add("the first s factors shared", partial(fixed_set_table, block, paper), paper["place"])
    with named_problems("random numbers of shared factors", section.missing):
        for block in random_blocks(metrics):
            section.add("random numbers of shared factors", partial(random_table, block))
    file = benchmark_file(metrics)
    section.add(
        "Table 3",
        lambda: table_3(read_benchmark(file), runtimes, benchmark_provenance(file.with_suffix(".json"))),
        runtimes["place"],
    )
    return section


def _disentanglement(metrics: Path, figures: Path) -> Section:
    section = Section(
        "disentanglement",
        "Disentanglement scores",
        "Appendix C.2. Published scores of the representations of the models above, 1 is best.",
    )
    for block in weak_blocks.read_blocks(metrics):
        try:
            made = provenance_of(scores(block), "disentanglement_metrics.csv")
        except ExperimentError as error:
            section.missing.append(f"Figure 11: {error}")
            continue
        caption = f"Figure 11: scores over the number of independent factors. {block.heading}."
        section.add_pictures(figures, {"figure_11": caption}, made, f"_{block.suffix}")
        section.add("Figure 11", partial(figure_11_table, block))
    return section


def _clustering(metrics: Path, figures: Path) -> Section:
    section = Section(
        "clustering",
        "Clustering with three priors",
        "Section 5.3 and Appendix C.3. A variational deep embedding clusters digits, all of them or with half of the "
        "classes cut to 80 or 60 %, with a uniform, a categorical and a hypergeometric prior.",
    )
    paper, pictured = read_paper("table_2"), set[str]()
    with named_problems("Table 2", section.missing):
        for block in clustering_blocks.read_blocks(metrics):
            for split in SPLITS:
                section.add("Table 2", partial(table_2, block, split, paper), paper["place"])
            section.add("learned weights", partial(weights_chart, block))
            captions = {
                "figure_3": "Figure 3: learned weights beside the frequencies of the classes.",
                "clustering_digits": "Digits that each cluster generates.",
                "clustering_confusion": "Clusters against classes on the test digits.",
                "clustering_history": "Bound and test accuracy over the epochs.",
            }
            if block.recipe in pictured:  # of single runs the largest profile's are enough: they are most of the page
                del captions["clustering_digits"], captions["clustering_confusion"]
            pictured.add(block.recipe)
            captions = {name: f"{caption} {block.heading}." for name, caption in captions.items()}
            made = provenance_of(block.metrics, CLUSTERING_FILE)
            section.add_pictures(figures, captions, made, f"_{block.suffix}")
            section.add("learned weights", partial(weights_tables, block))
    section.add("studies", lambda: [*study_tables(metrics), *control_tables(metrics)])
    return section


def _gradients(metrics: Path, figures: Path) -> Section:
    text = EXPLANATION.replace("`", "")  # which is Markdown
    section = Section("gradients", "Gradients through the draws", f"Ours. {text}")
    study = gradient_figures.read(metrics)
    table = worst_table(study)
    made = table.provenance[0]
    if made:
        caption = "Error and spread of the gradient over the temperature."
        section.add_pictures(figures, {"gradient_study": caption}, made)
    section.add("temperatures", lambda: table)
    section.add("cases", partial(case_table, study))
    return section


def _speed(metrics: Path, figures: Path) -> Section:
    section = Section("speed", "Speed", "Ours. Both sides are measured in one run, in turns but for BiasedUrn.")
    for name, title in {
        "benchmark": "The distribution beside the authors' code, BiasedUrn and what was wanted",
        "clustering": "Training steps of the clustering model",
    }.items():
        section.add(name, partial(committed_table, metrics.parent / "benchmark", name, title))
    return section


MAKERS: dict[str, Callable[[Path, Path], Section]] = {
    "Kolmogorov-Smirnov tests": _kolmogorov_smirnov,
    "urn": _urn,
    "weak supervision": _weak_supervision,
    "disentanglement": _disentanglement,
    "clustering": _clustering,
    "gradients": _gradients,
    "speed": _speed,
}
