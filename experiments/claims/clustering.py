"""Measures the claims about clustering (Section 5.3, Appendix C; Table 2, Figure 3) on every profile and data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims.comparison import compare
from experiments.claims.rules import Measurement, hours, measure, read_rules
from experiments.clustering.blocks import PAPER_PRIORS
from experiments.clustering.recovery import recovery
from experiments.results import Block, blocks, read_metrics

VERSIONS = {"60": "60 %", "80": "80 %", "full": "full data"}
HARDER = {"20": "20 %", "10": "10 %"}  # ours
NAMES = VERSIONS | HARDER
SCORES = {"accuracy": "accuracy", "nmi": "NMI", "ari": "ARI"}
PLACES = {"vade": "Section 5.3", "n2d": "ours (recipe n2d)"}  # with UMAP nothing is the paper's
EQUAL = "equal"
FOUND = 0.2  # least accuracy of a start that there is something to keep of: twice what chance gives of ten classes
LEAST = 0.002  # a smaller difference of scores is none, however small its standard error
FILE = "clustering_metrics.csv"
PUBLISHED = 94.46  # percent, of VaDE's authors


def clustering(metrics: Path) -> list[Measurement]:
    """Section 5.3, each profile, data set and recipe by itself."""
    measured = []
    for both in blocks(_read(metrics, "metrics"), ("mnist",)):  # the paper's data first
        for recipe in [name for name in PLACES if (both.lines["recipe"] == name).any()]:
            block = both._replace(lines=both.lines[both.lines["recipe"] == recipe])
            for version, score in product(VERSIONS, SCORES):
                for other in ("uniform", "categorical"):
                    measured.append(pair(block, "table_2_order", "hypergeometric", other, version, score))
                if version != "full":
                    measured.append(pair(block, "table_2_categorical", "uniform", "categorical", version, score))
            harder = [version for version in HARDER if not _scores(block, "hypergeometric", version).empty]
            for version, score, other in product(harder, SCORES, ("uniform", "categorical")):
                measured.append(pair(block, "harder_order", "hypergeometric", other, version, score))
            measured += [imbalance(block, other) for other in ("uniform", "categorical")]
            measured += [level(block), learned_weights(block, metrics), control(block, metrics)]
            if recipe == "vade":
                measured.append(published_accuracy(block))
                runs = _scores(block, "hypergeometric")
                measured.append(hours("clustering_time", block, runs, FILE, fills={"place": _place(block)}))
            measured += kept(block)
    return measured


def _place(block: Block) -> str:
    return PLACES[block.lines["recipe"].iloc[0]]


def pair(block: Block, rule: str, better: str, worse: str, version: str, score: str) -> Measurement:
    """The mean paired difference of a test score of two priors on the same seeds."""
    priors = {f"the {prior} prior": _scores(block, prior, version) for prior in (better, worse)}
    fills = {"other": worse, "version": NAMES[version], "score": SCORES[score], "recipe": block.lines["recipe"].iloc[0]}
    return _difference(block, rule, priors, score, fills, f"{SCORES[score]}, {worse}, {NAMES[version]}")


def imbalance(block: Block, other: str) -> Measurement:
    """How much more the hypergeometric prior gains where classes are cut most than where none is."""
    gains, of_other = {}, []
    for version in ("60", "full"):
        lines = {prior: _scores(block, prior, version).set_index("seed") for prior in ("hypergeometric", other)}
        gain = lines["hypergeometric"]["accuracy"] - lines[other]["accuracy"]
        gains[f"the gain at {VERSIONS[version]}"] = lines["hypergeometric"].assign(gain=gain).reset_index()
        of_other.append(lines[other].reset_index())
    fills, part = {"other": other, "version": VERSIONS["60"]}, f"gain over {other}"
    return _difference(block, "table_2_imbalance", gains, "gain", fills, part, of_other)


def control(block: Block, metrics: Path) -> Measurement:
    """How near to the class frequencies learned weights are, the uniform prior's clusters and equal weights."""
    learned, uniform = (_scores(block, prior, "60") for prior in ("hypergeometric", "uniform"))
    estimates = {
        "learned weights": (learned, "learned_frequency"),
        "the uniform prior": (uniform, "train_fraction"),
        "equal weights": (learned, EQUAL),
    }
    sides = {
        name: runs.merge(_recovered(metrics, runs, estimate), on="run_id", how="left")
        for name, (runs, estimate) in estimates.items()
    }
    found = compare(sides, "mean_absolute_error")
    text = "; ".join(f"{name} {100 * mean:.2f}" for name, mean in found.means.items()) + " points"
    values = [(-mean, _at_least(unit)) for mean, unit in found.judged]
    more: dict[str, Any] = {"missing": found.missing("figure_3_control"), "fills": {"place": _place(block)}}
    return measure("figure_3_control", block, found.lines, FILE, text, values, part="error of the frequencies", **more)


def _difference(
    block: Block,
    rule: str,
    sides: Mapping[str, pd.DataFrame],
    column: str,
    fills: Mapping[str, str],
    part: str,
    behind: Sequence[pd.DataFrame] = (),
) -> Measurement:
    """The first side less the second; ``behind``: further runs that the numbers of the sides are made of."""
    found, fills = compare(sides, column), {**fills, "place": _place(block)}
    ((mean, error),) = found.differences.values()
    short = f"{100 * mean:+.2f} points"
    text = short if math.isnan(error) else f"{short}, standard error {100 * error:.2f}"
    values = [(mean, _at_least(unit)) for mean, unit in found.judged]
    more: dict[str, Any] = {"missing": found.missing(rule), "fills": fills, "part": part, "short": short}
    lines = pd.concat([found.lines, *(one[one["seed"].isin(found.values.index)] for one in behind)])
    return measure(rule, block, lines, FILE, text, values, **more)


def _at_least(error: float) -> float:
    return error if math.isnan(error) else max(error, LEAST / 2)


def kept(block: Block) -> list[Measurement]:
    """What training does to the accuracy of every seed's start."""
    measured = []
    lines = block.lines[(block.lines["split"] == "test") & block.lines["prior"].isin(PAPER_PRIORS)]
    for (prior, version), cell in lines.groupby(["prior", "version"]):
        stages = {stage: cell[cell["stage"] == stage].set_index("seed")["accuracy"] for stage in ("start", "vade")}
        seeds = stages["vade"].index.intersection(stages["start"].index)
        start, end = (stages[stage].loc[seeds] for stage in ("start", "vade"))
        change = end - start
        name = NAMES[version]
        fills = {"prior": prior, "version": name, "place": block.lines["recipe"].iloc[0]}
        text = f"from {100 * start.mean():.1f} to {100 * end.mean():.1f} %, "
        text += "by seed " + " ".join(f"{100 * one:+.1f}" for one in change)
        more: dict[str, Any] = {"seeds": len(change), "fills": fills, "part": f"{prior}, {name}"}
        more["short"] = f"{100 * change.min():+.1f} points at worst"
        if start.mean() < FOUND:
            more["missing"] = f"a start of {100 * start.mean():.0f} % is nothing to keep"
        values = [(round(float(one), 9), 1.0) for one in change]  # half a point is 0.005, not a trace more
        measured.append(
            measure("keeps_start", block, cell[cell["seed"].isin(change.index)], FILE, text, values, **more)
        )
    return measured


def level(block: Block) -> Measurement:
    """The version of the paper on which the hypergeometric prior does worst."""
    scores = _scores(block, "hypergeometric")
    versions = scores.groupby("version")
    means = versions["accuracy"].mean()
    seeds = int(versions["seed"].nunique().min()) if len(means) == len(VERSIONS) else 0
    lowest = float(means.min()) if len(means) else math.nan
    text = ", ".join(f"{VERSIONS[version]} {100 * mean:.1f} %" for version, mean in means.items())
    return _measured(block, "table_2_level", scores, seeds, text, lowest, f"{100 * lowest:.1f} %")


def learned_weights(block: Block, metrics: Path) -> Measurement:
    """Figure 3; a run whose learned frequencies are all equal has learned no order and counts as 0.

    One that clusters without weights, under the uniform prior, show as well says nothing about the weights.
    """
    sides = {}
    for prior, estimate in (("hypergeometric", "learned_frequency"), ("uniform", "train_fraction")):
        runs = _scores(block, prior, "60")
        found = _recovered(metrics, runs, estimate).fillna({"rank_correlation": 0.0})
        sides[f"the {prior} prior"] = runs.merge(found, on="run_id", how="left")
    compared = compare(sides, "rank_correlation")
    learned, clusters = compared.means
    text = f"{learned:.2f}, lowest {compared.values.iloc[:, 0].min():.2f}; of clusters without weights {clusters:.2f}"
    missing = compared.missing("figure_3")
    ((above, unit),) = compared.judged
    if not missing and above <= 2 * unit and learned >= read_rules()["figure_3"]["close"]["at_least"]:
        missing = "clusters without weights show the frequencies as well"
    more: dict[str, Any] = {"missing": missing, "fills": {"place": _place(block)}}
    more["short"] = f"{learned:.2f} beside {clusters:.2f}"
    return measure("figure_3", block, compared.lines, FILE, text, [(float(learned), 1.0)], **more)


def published_accuracy(block: Block) -> Measurement:
    """The class of result that is published for this model."""
    scores = _scores(block, "uniform", "full")
    median = float(scores["accuracy"].median())
    text = f"{100 * median:.1f} %, {scores['epochs'].min():.0f} epochs"
    difference = f"{100 * median - PUBLISHED:+.1f} points"
    short = f"{100 * median:.1f} %"
    return _measured(block, "published_accuracy", scores, len(scores), text, median, short, difference)


def _read(metrics: Path, name: str) -> pd.DataFrame:
    """Lines of the paper's prior on its versions and on ours; of others nothing is said."""
    table = read_metrics(metrics, f"clustering_{name}", dtype={"version": str})
    ours = (table["conditionals"] == "merged") | (table["reading"] == "assignments")
    return table[table["version"].isin(NAMES) & ~ours]


def _recovered(metrics: Path, runs: pd.DataFrame, estimate: str) -> pd.DataFrame:
    """How well an estimate of some runs shows the frequencies of the classes, by their ids."""
    weights = _read(metrics, "weights")
    weights = weights[weights["run_id"].isin(runs["run_id"])]
    if estimate == EQUAL:  # of the weights that training starts with
        clusters = weights.groupby("run_id")["cluster"].transform("size")
        weights, estimate = weights.assign(learned_frequency=1 / clusters), "learned_frequency"
    found = recovery(weights)
    return found.loc[found["estimate"] == estimate, ["run_id", "rank_correlation", "mean_absolute_error"]]


def _scores(block: Block, prior: str, version: str | None = None) -> pd.DataFrame:
    """Test scores after training, a line per run; on the paper's versions if none is named."""
    lines = block.lines
    chosen = (lines["split"] == "test") & (lines["stage"] == "vade") & (lines["prior"] == prior)
    return lines[chosen & lines["version"].isin(VERSIONS if version is None else [version])]


def _measured(
    block: Block, rule: str, lines: pd.DataFrame, seeds: int, text: str, value: float, short: str, difference: str = "-"
) -> Measurement:
    """A single number; without a seed there is none."""
    lines = lines if seeds else lines.iloc[:0]
    more: dict[str, Any] = {"fills": {"place": _place(block)}, "short": short, "difference": difference}
    return measure(rule, block, lines, FILE, text, [(value, 1.0)], seeds=seeds, **more)
