"""The charts of the page: the approximation's error, the number of independent latents, the learned weights."""

from __future__ import annotations

import pandas as pd

from experiments.clustering.blocks import VERSIONS, WEIGHTED
from experiments.clustering.blocks import Block as ClusteringBlock
from experiments.report.charts import Chart, Point, Series
from experiments.results import provenance_of
from experiments.settings import ExperimentError
from experiments.weak_supervision.blocks import Block as WeakBlock
from experiments.weak_supervision.blocks import label, mean_and_error
from experiments.weak_supervision.methods import REFERENCES

SAMPLER = "straight_through"  # the one that the paper tests
COMPARISONS = {
    ("merged", "merged"): "merged, against the merged reference (the paper's test)",
    ("merged", "exact"): "merged, against the exact law",
    ("exact", "exact"): "exact conditionals, against the exact law",
}
LOWEST_DISTANCE = 1e-4  # drawn; a logarithmic axis has no zero
CUT = "60"  # the version whose learned weights are shown


def distance_chart(tests: pd.DataFrame) -> Chart:
    """The largest Kolmogorov-Smirnov distance over the groups, over the weight of group 2.

    Args:
        tests: Of one profile and seed.

    Raises:
        ExperimentError: there is no run over the weights.
    """
    chosen = (tests["sampler"] == SAMPLER) & (tests["series"] == "weights")
    runs = tests[chosen & (tests["experiment"] == "kolmogorov_smirnov")]
    series = []
    for (conditionals, reference), name in COMPARISONS.items():
        part = runs[(runs["conditionals"] == conditionals) & (runs["reference"] == reference)]
        if part.empty:
            continue
        points = []
        for value, urn in part.groupby("value"):
            distance, rejected = urn["ks_distance"].max(), urn["rejected"].sum()
            text = f"{name}: weight {value:g}, D = {distance:.4f}, {rejected} of {len(urn)} rejected"
            points.append(Point.at(value, max(distance, LOWEST_DISTANCE), text))
        series.append(Series(name, points, provenance_of(part, "kolmogorov_smirnov_metrics.csv")))
    if not series:
        raise ExperimentError("the metrics hold no Kolmogorov-Smirnov test over the weights")
    ticks = [(value, f"{value:g}") for value in sorted(runs["value"].unique())]
    limit = float(runs.loc[runs["reference"] == "exact", "ks_detectable"].max())
    if limit > 0:
        ends = [Point.at(place, limit, f"{limit:.4f}") for place in (ticks[0][0], ticks[-1][0])]
        series.append(Series(f"rejected at 0.05 above {limit:.4f} (exact law)", ends, marked=False))
    caption = (
        "Largest Kolmogorov-Smirnov distance D of the three groups, over the weight of group 2; "
        f"{runs['draws'].iloc[0]:,} draws per urn. The paper's test compares the merged sampler with a reference that "
        "merges in the same way, and sees nothing; held against the law itself, the distance is large as soon as "
        "weights differ."
    )
    labels = ("weight of group 2", "largest KS distance D")
    return Chart("chart-distances", caption, *labels, series, ticks, logarithmic=True)


def count_chart(block: WeakBlock) -> Chart:
    """The estimated number of independent latents over the true one, a line per method.

    Args:
        block: One profile on one data set.

    Raises:
        ExperimentError: there is no run of a method that estimates it.
    """
    series, counts = [], [block.num_factors - shared for shared in block.shared]
    for method in (method for method in block.methods if method not in REFERENCES):
        runs, points = block.runs(method), []
        for shared, part in runs.groupby("shared"):
            mean, error = mean_and_error(block.num_factors * part["expected_count"] / part["latents"])
            count, spread = block.num_factors - int(shared), 0.0 if pd.isna(error) else error
            text = f"{label(method)}: s = {shared}, k = {count}, estimate {mean:.2f}"
            text += f" ± {spread:.2f}" if spread else ""
            points.append(Point(count, mean, mean - spread, mean + spread, text))
        series.append(Series(label(method), points, provenance_of(runs, "weak_supervision_metrics.csv")))
    if not series:
        raise ExperimentError(f"the metrics hold no run of a method that estimates k at {block.source}")
    truth = [Point.at(count, count, f"truth: k = {count}") for count in sorted(counts)]
    series.append(Series("truth", truth, marked=False))
    caption = (
        f"Estimated number of independent latents, E[k-hat] times {block.num_factors} / latents, over the true number "
        f"of independent factors, k = {block.num_factors} - s; {block.source}. Mean over the seeds and its standard "
        "error. A method that finds k lies on the line of the truth; a flat line is the same answer to every question."
    )
    key, ticks = f"chart-counts-{block.suffix}", [(count, str(count)) for count in sorted(counts)]
    return Chart(key, caption, "true number of independent factors, k", "estimate, scaled", series, ticks)


def weights_chart(block: ClusteringBlock) -> Chart:
    """Learned shares of the clusters beside the frequencies of their classes.

    Args:
        block: One profile on one data set.

    Raises:
        ExperimentError: there is no run with learned weights.
    """
    weights, scores = block.table("weights"), block.scores()
    weights = weights[(weights["version"] == CUT) & (weights["matched_class"] >= 0)]
    series: list[Series] = []
    for prior, name in WEIGHTED.items():
        points = []
        for digit, lines in weights[weights["prior"] == prior].groupby("matched_class"):
            shares = 100 * lines["learned_frequency"]
            mean, low, high = shares.mean(), shares.min(), shares.max()
            text = f"{name}: digit {digit}, {mean:.1f} % (seeds: {low:.1f} to {high:.1f} %)"
            points.append(Point(digit + 0.16 * (len(series) - 1), mean, low, high, text))
        if points:
            made = scores[(scores["prior"] == prior) & (scores["version"] == CUT)]
            series.append(Series(name, points, provenance_of(made, "clustering_weights.csv"), joined=False))
    if not series:
        raise ExperimentError(f"the metrics hold no learned weights of the version {CUT} at {block.source}")
    shares = 100 * weights.groupby("matched_class")["true_frequency"].mean()
    truth = [Point.at(digit, share, f"true class: digit {digit}, {share:.1f} %") for digit, share in shares.items()]
    series.append(Series("true class", truth, marked=False))
    caption = (
        f"Figure 3 for the version with {VERSIONS[CUT]} of half of the classes left; {block.source}. The share of a "
        "batch that the learned law expects of each cluster, mean and range over the seeds, beside the frequency of "
        "its class."
    )
    ticks = [(digit, str(digit)) for digit in range(10)]
    return Chart(f"chart-weights-{block.suffix}", caption, "digit", "share of the digits, %", series, ticks)
