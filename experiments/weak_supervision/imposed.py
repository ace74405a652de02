"""The number of independent latents that the bound itself prefers: models trained with every k imposed."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import gammaln

from experiments.figures import add_caption, draw_means, legend_above
from experiments.results import describe_seeds, provenance_of
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table
from experiments.weak_supervision.blocks import Block, label, listed
from experiments.weak_supervision.methods import METHODS, REFERENCES
from experiments.weak_supervision.table_1 import METRICS_FILE

IMPOSED = "fixed_k_joint"
_CHANGES = r"(model\.(independent|num_latents)=\d+ ?)*"


def _imposed(block: Block) -> pd.DataFrame:
    """Runs with k imposed, by default at the truth; the same k may be named as well, and counts once."""
    runs = block.table("metrics", changes=True)
    runs = runs[(runs["method"] == IMPOSED) & runs["changes"].str.fullmatch(_CHANGES)]
    return runs.drop_duplicates(["latents", "shared", "seed", "expected_count"])


def imposed_runs(block: Block) -> pd.DataFrame:
    """Runs with k imposed at the number of latents of which most k were tried; of each s the seeds with most k."""
    runs = _imposed(block)
    tried = runs.groupby(["latents", "shared"])["expected_count"].nunique()
    tried = tried[tried > 1]
    if tried.empty:
        return runs[:0]
    latents = tried.groupby("latents").max().idxmax()
    runs = runs[(runs["latents"] == latents) & runs["shared"].isin(tried[latents].index)]
    tried = runs.groupby(["shared", "seed"])["expected_count"].transform("nunique")
    return runs[tried == tried.groupby(runs["shared"]).transform("max")]  # seeds of one k alone would shift its mean


def runs_told_k(block: Block, shared: int, latents: int) -> pd.DataFrame:
    """Runs of so many latents with k imposed at the truth; in ``whole_bound`` the choice of the set is paid for.

    All sets of k latents are equally likely beforehand and one is taken, which costs log (latents choose k) per pair;
    less where k exceeds the active latents among them, as it does not matter which inactive ones make up for it.
    """
    runs = _imposed(block)
    k = block.num_factors - shared
    runs = runs[(runs["shared"] == shared) & (runs["latents"] == latents) & (runs["expected_count"] == k)]
    chosen = (k - runs["active_independent"]).clip(0, runs["inactive"])
    sets = _log_choose(latents, k) - _log_choose(runs["inactive"], chosen)
    return runs.assign(whole_bound=runs["joint_bound"] - sets / 2)


def _log_choose(latents: Any, chosen: Any) -> Any:
    """The logarithm of a binomial coefficient, between whole numbers, too: means over pairs are taken."""
    return gammaln(latents + 1) - gammaln(chosen + 1) - gammaln(latents - chosen + 1)


def imposed_bounds(runs: pd.DataFrame) -> pd.DataFrame:
    """Held-out joint bound of such runs, mean over the seeds: a line per s, a column per k."""
    return runs.pivot_table(index="shared", columns="expected_count", values="joint_bound")


def preferred_table(block: Block) -> Table:
    """The k of largest bound at every s, with the difference to its neighbours, beside what the methods estimate.

    Raises:
        ExperimentError: of no s were several k imposed.
    """
    runs = imposed_runs(block)
    if runs.empty:
        raise ExperimentError(f"more than one k was imposed at no s at {block.source}")
    (latents,) = runs["latents"].unique()
    methods = [method for method in block.methods if method not in REFERENCES]
    header = ["s", "k", f"latents of {latents} preferred", "joint bound there", "one less", "one more", "none", "all"]
    rows, provenance = [], []
    for shared, line in imposed_bounds(runs).iterrows():
        line = line.dropna()
        best = line.idxmax()
        others = [line.get(count, float("nan")) - line[best] for count in (best - 1, best + 1, 0, latents)]
        cells = [f"{best:g}", f"{line[best]:.2f}", *(NOTHING if one != one else f"{one:+.2f}" for one in others)]
        part = runs[runs["shared"] == shared]
        estimates = [block.runs(method, int(shared)) for method in methods]
        estimates = [found[found["seed"].isin(part["seed"])] for found in estimates]
        cells += [f"{found['expected_count'].mean():.2f}" if len(found) else NOTHING for found in estimates]
        rows.append([str(shared), str(block.num_factors - int(shared)), *cells, listed(part["seed"])])
        provenance.append(provenance_of(pd.concat([part, *estimates]), METRICS_FILE))
    title = f"The number of independent latents that the joint bound prefers on {block.source}"
    return Table(title, [*header, *(f"E[k-hat] {METHODS[one]}" for one in methods), "seeds"], rows, provenance)


def figure_counts(block: Block) -> Figure:
    """k, the k that the bound itself prefers, and what each method estimates.

    Raises:
        ExperimentError: there is neither.
    """
    methods = [method for method in block.methods if method not in REFERENCES]
    runs = imposed_runs(block)
    if not methods and runs.empty:
        raise ExperimentError(f"the metrics hold no run that says anything about k at {block.source}")
    figure, ax = plt.subplots(figsize=(5.6, 4.2))
    ends = (-0.3, block.num_factors + 0.3)
    ax.plot(ends, ends, color="0.4", linewidth=0.8, zorder=0, label="k")
    for method in methods:
        lines = _scaled(block, block.runs(method), "expected_count")
        draw_means(ax, lines, "true", "scaled", label=label(method), **block.style(method))
    stars = ""
    if len(runs):
        bounds = imposed_bounds(runs)
        best = bounds.idxmax(axis=1).rename("best").reset_index().assign(latents=runs["latents"].iloc[0])
        preferred = _scaled(block, best, "best")
        style: dict[str, Any] = {"linestyle": "", "marker": "*", "markersize": 11, "color": "black", "zorder": 3}
        ax.plot(preferred["true"], preferred["scaled"], label="largest joint bound among the k imposed", **style)
        counts = {
            shared: f"{_in_words(line.dropna().index.astype(int).tolist())}, "
            f"{describe_seeds(runs[runs['shared'] == shared])}"
            for shared, line in bounds.iterrows()
        }
        if len(counts) > 1 and len(set(counts.values())) == 1:
            each = f"every s: {counts.popitem()[1]}"
        else:
            each = "; ".join(f"s = {shared}: {of_pairs}" for shared, of_pairs in counts.items())
        tried = f"of {best['latents'].iloc[0]} latents, {each}"
        stars = (
            "Stars: of models that were trained with k imposed, the k of the largest joint bound on test pairs, scaled "
            f"alike ({tried}). "
        )
    ax.set_xlabel("factors that differ, k")
    ax.set_ylabel("estimate, scaled by factors / latents")
    legend_above(figure, ax.get_legend_handles_labels(), 3)
    shown = block.metrics[block.metrics["method"].isin(methods or block.methods)]
    caption = (
        "The number of factors that differ, as each method estimates it: E[k-hat] scaled by factors / latents; "
        f"bars: standard error over the seeds. {stars}{block.described(shown)}"
    )
    add_caption(figure, caption)
    return figure


def _in_words(counts: list[int]) -> str:
    whole = len(counts) > 2 and counts == list(range(counts[0], counts[-1] + 1))
    return f"{counts[0]} to {counts[-1]}" if whole else ", ".join(map(str, counts))


def _scaled(block: Block, runs: pd.DataFrame, column: str) -> pd.DataFrame:
    scaled = block.num_factors * runs[column] / runs["latents"]
    return runs.assign(true=block.num_factors - runs["shared"], scaled=scaled)
