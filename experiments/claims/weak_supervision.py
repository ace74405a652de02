"""Measures the claims of Section 5.2 (Figure 2, Table 1) on every profile and data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims.comparison import Comparison, compare, widened
from experiments.claims.rules import Measurement, measure
from experiments.results import Block, blocks, read_metrics, read_paper
from experiments.weak_supervision.blocks import RANDOM, SHARED, of_number, with_scaled_error
from experiments.weak_supervision.blocks import Block as WeakBlock
from experiments.weak_supervision.data.sources import FACTORS, SOURCES
from experiments.weak_supervision.imposed import imposed_bounds, imposed_runs, runs_told_k
from experiments.weak_supervision.methods import BASELINES, OURS, PAPER_METHODS
from experiments.weak_supervision.random_pairs import pixel_runs

FILE = "weak_supervision_metrics"
TOLD = "k fixed to the truth"
METHODS = PAPER_METHODS | OURS | {"fixed_k_joint": "fixed k, joint bound"}  # of others nothing is said
ERRORS = {"figure_2_error": "count_error", "figure_2_scaled": "scaled_count_error"}  # both readings, for all methods
DATA = ("mpi3d_toy",)  # of the paper; others follow
INDEPENDENT_PAIRS = (0, 1, 3)  # of the paper's claim: at s = 5 it reports next to nothing itself
SHARED_PAIRS = (1, 3, 5)  # without shared factors there is no shared part
ROUNDED = 0.005  # half of the last digit of the paper's accuracies
PARTS = {"shared": "shared_accuracy", "independent": "independent_accuracy"}


def weak_supervision(metrics: Path) -> list[Measurement]:
    """Section 5.2, each profile and data set by itself.

    Of a block without any pairs of some s, or without any run of a method of ours, nothing is said.
    """
    measured = []
    paper = read_paper("table_1")["hgvae"]
    table = read_metrics(metrics, FILE)
    for block in blocks(of_number(table), DATA):
        factors = len(SOURCES[block.data].factors if block.data in SOURCES else FACTORS)
        block = block._replace(lines=with_scaled_error(block.lines, factors))
        pairs = [shared for shared in SHARED if (block.lines["shared"] == shared).any()]
        ours = [method for method in OURS if (block.lines["method"] == method).any()]
        for method in ("hgvae", *ours):
            measured += [below_baselines(block, rule, method, shared) for rule in ERRORS for shared in pairs]
            measured += [near_truth(block, "figure_2_low", method, shared) for shared in pairs if method == "hgvae"]
            judged = pairs if method in OURS else [shared for shared in pairs if shared in INDEPENDENT_PAIRS]
            measured += [part_accuracy(block, "independent", method, shared) for shared in judged]
            measured += [part_accuracy(block, "shared", method, shared) for shared in pairs if shared in SHARED_PAIRS]
            measured.append(beats_constant(block, method, factors))
        measured.append(same_estimate(block, "ada_vae"))  # LabelVAE's estimate is one, by its definition
        measured += [
            paper_number(block, part, shared, paper[shared][part])
            for part in PARTS
            for shared in pairs
            if part in paper.get(shared, {})
        ]
        for method in ours:
            measured += [near_truth(block, "near_truth", method, shared) for shared in pairs]
            measured += [near_preferred(metrics, block, method, shared) for shared in pairs]
            measured += [bound_of_truth(metrics, block, method, shared) for shared in pairs]
    random = table[table["shared"].astype(str) == RANDOM]
    for block in blocks(random, DATA):
        methods = [method for method in METHODS if (block.lines["method"] == method).any()]
        measured += [follows_pairs(block, method) for method in methods]
        measured += [beats_pixels(block, method) for method in methods]
    return measured


def runs_of(block: Block, method: str, shared: int | None = None) -> pd.DataFrame:
    """Lines of a method, of all pairs or of those that share ``shared`` factors; one per run."""
    chosen = block.lines["method"] == method
    return block.lines[chosen if shared is None else chosen & (block.lines["shared"] == shared)]


def below_baselines(block: Block, rule: str, method: str, shared: int) -> Measurement:
    """Figure 2 at one s, by one of the two readings of the error; both baselines decide."""
    cell = _cell(block, (method, *BASELINES), shared, ERRORS[rule])
    text, rule = "; ".join(f"{name} {mean:.2f}" for name, mean in cell.means.items()), _rule(rule, method)
    return _measured(block, rule, method, shared, cell, text, cell.judged, _beside(cell))


def near_truth(block: Block, rule: str, method: str, shared: int) -> Measurement:
    """The error of the named method by itself: unlike an order, no constant k-hat meets this at every s."""
    cell = _cell(block, (method,), shared, "scaled_count_error")
    errors = cell.values[METHODS[method]]
    mean, text = float(errors.mean()), f"{errors.mean():.2f}, largest {errors.max():.2f}"
    return _measured(block, rule, method, shared, cell, text, [(mean, 1.0)], f"{mean:.2f}")


def near_preferred(metrics: Path, block: Block, method: str, shared: int) -> Measurement:
    """E[k-hat] beside the number that the bound prefers among those imposed in training."""
    runs, name = runs_of(block, method, shared).dropna(subset=["expected_count"]), METHODS[method]
    imposed = imposed_runs(WeakBlock(metrics, block.profile, block.data, block.lines))
    imposed = imposed[imposed["shared"] == shared]
    seeds = set(runs["seed"]) & set(imposed["seed"])  # both vary between seeds
    if seeds:
        runs, imposed = (one[one["seed"].isin(seeds)] for one in (runs, imposed))
    fills: dict[str, Any] = {"method": name, "shared": shared}
    more: dict[str, Any] = {"seeds": len(seeds), "fills": fills, "part": f"s = {shared}"}
    text, values = "", []
    if imposed.empty or runs.empty or set(imposed["latents"]) != set(runs["latents"]):
        more["missing"] = f"no run of {name}" if runs.empty else f"k was not imposed at s = {shared}"
    else:
        best = float(imposed_bounds(imposed).idxmax(axis=1).iloc[0])
        mean = float(runs["expected_count"].mean())
        text = f"{mean:.2f} of {imposed['latents'].iloc[0]}; the bound prefers {best:g}"
        values = [(abs(mean - best), 1.0)]
        more["short"] = f"{mean:.1f} for {best:g}"
        runs = pd.concat([runs, imposed])
    return measure("near_preferred", block, runs, f"{FILE}.csv", text, values, **more)


def beats_constant(block: Block, method: str, factors: int) -> Measurement:
    """The mean error over s beside the best constant's, which is the variance of k over the same s."""
    by_seed = runs_of(block, method).pivot(index="seed", columns="shared", values="scaled_count_error").dropna()
    means, best = by_seed.mean(axis=1), float((factors - by_seed.columns.to_series()).var(ddof=0))
    text = f"{means.mean():.2f} over s = {', '.join(str(one) for one in by_seed)}; a constant {best:.2f}"
    value = float(means.mean()) - best, widened(float(means.sem()), len(means))
    short = f"{means.mean():.2f} beside {best:.2f}"
    return _over_pairs(block, _rule("figure_2_constant", method), method, text, value, short, list(means.index))


def follows_pairs(block: Block, method: str) -> Measurement:
    """Rank correlation of the estimate with k over pairs that share a random number of factors."""
    runs, name = runs_of(block, method).dropna(subset=["rank_correlation"]), METHODS[method]
    mean, seeds = float(runs["rank_correlation"].mean()), int(runs["seed"].nunique())
    more: dict[str, Any] = {"seeds": seeds, "fills": {"method": name}, "part": name}
    return measure("follows_pairs", block, runs, f"{FILE}.csv", f"{mean:.3f}", [(mean, 1.0)], **more)


def beats_pixels(block: Block, method: str) -> Measurement:
    """The rank correlation of the estimate beside that of the number of pixels that change, on the same pairs."""
    runs, name = runs_of(block, method), METHODS[method]
    cell = compare({name: runs, "the number of pixels that change": pixel_runs(block.lines)}, "rank_correlation")
    text, rule = "; ".join(f"{one} {mean:.3f}" for one, mean in cell.means.items()), "beats_pixels"
    more: dict[str, Any] = {"missing": cell.missing(rule), "fills": {"method": name}, "part": name}
    more["short"] = _beside(cell)
    return measure(rule, block, cell.lines, f"{FILE}.csv", text, cell.judged, **more)


def bound_of_truth(metrics: Path, block: Block, method: str, shared: int) -> Measurement:
    """The bound of the named method, the set's divergence taken off, beside that of as many latents with k given."""
    runs = runs_of(block, method, shared)
    runs = runs.assign(whole_bound=runs["joint_bound"] - runs["selection_divergence"])
    latents = int(runs["latents"].max()) if len(runs) else 0
    told = runs_told_k(WeakBlock(metrics, block.profile, block.data, block.lines), shared, latents)
    cells = [compare({METHODS[method]: runs, TOLD: told}, column) for column in ("whole_bound", "joint_bound")]
    ((mean, error),), ((without, _),) = (cell.differences.values() for cell in cells)
    text = f"{mean:+.2f} nats per image" + ("" if math.isnan(error) else f", standard error {error:.2f}")
    text += f" ({without:+.2f} without the choice of the set)"
    return _measured(block, "bound_of_truth", method, shared, cells[0], text, [(mean, 1.0)], f"{mean:+.1f} nats")


def part_accuracy(block: Block, part: str, method: str, shared: int) -> Measurement:
    """Table 1, column S or I; both baselines decide."""
    cell = _cell(block, (method, *BASELINES), shared, PARTS[part])
    differences = cell.differences
    shown = "; ".join(f"{_with_error(*one)} to {other}" for other, one in differences.items())
    text, rule = f"{cell.means.iloc[0]:.3f}: {shown}", _rule(f"table_1_{part}", method)
    values = [(mean, 1.0) for mean, _ in differences.values()]
    return _measured(block, rule, method, shared, cell, text, values, _beside(cell))


def paper_number(block: Block, part: str, shared: int, number: Sequence[float]) -> Measurement:
    """One legible cell of Table 1."""
    cell = _cell(block, ("hgvae",), shared, PARTS[part])
    mean, (paper, deviation) = float(cell.means.iloc[0]), number
    values = [(abs(mean - paper), max(deviation, 2 * ROUNDED))]
    short, fills = f"{mean:.2f} for {paper:.2f}", {"part": part}
    measured = _measured(block, "table_1_number", "hgvae", shared, cell, f"{mean:.3f}", values, short, fills)
    difference = "-" if measured.missing else f"{mean - paper:+.3f}"
    return replace(measured, paper=f"{paper:.2f} ± {deviation:.2f}", difference=difference)


def same_estimate(block: Block, method: str) -> Measurement:
    """A baseline's estimate of the number of shared latents over s."""
    runs = runs_of(block, method)
    means = (runs["latents"] - runs["expected_count"]).groupby(runs["shared"]).mean()
    spread, latents = float(means.max() - means.min()), runs["latents"].max()
    text, short = f"{means.min():.2f} to {means.max():.2f} of {latents} latents", f"range {spread:.2f}"
    return _over_pairs(block, "figure_2_baselines", method, text, (spread, 1.0), short)


def _over_pairs(
    block: Block,
    rule: str,
    method: str,
    text: str,
    value: tuple[float, float],
    short: str,
    common: Sequence[int] | None = None,
) -> Measurement:
    """What was measured over all s together, of the seeds ``common`` to them; of one s alone nothing is said."""
    name, runs = METHODS[method], runs_of(block, method).dropna(subset=["expected_count"])
    seeds = runs.groupby("shared")["seed"].nunique()
    more: dict[str, Any] = {"fills": {"method": name}, "part": name}
    if len(seeds) < 2:
        return measure(rule, block, runs, f"{FILE}.csv", short="", missing=f"no run of {name} at two s", **more)
    number = int(seeds.min())
    if common is not None:
        runs, number = runs[runs["seed"].isin(common)], len(common)
        more["missing"] = "" if common else "no seed is common to all s"
    return measure(rule, block, runs, f"{FILE}.csv", text, [value], seeds=number, short=short, **more)


def _cell(block: Block, methods: Iterable[str], shared: int, column: str) -> Comparison:
    return compare({METHODS[method]: runs_of(block, method, shared) for method in methods}, column)


def _measured(
    block: Block,
    rule: str,
    method: str,
    shared: int,
    cell: Comparison,
    text: str,
    values: Iterable[tuple[float, float]],
    short: str,
    fills: Mapping[str, str] | None = None,
) -> Measurement:
    """What was measured on the pairs of one s."""
    fills = fills or {}
    more: dict[str, Any] = {"part": ", ".join([*fills.values(), f"s = {shared}"]), "short": short}
    more |= {"missing": cell.missing(rule), "fills": {"method": METHODS[method], "shared": shared, **fills}}
    return measure(rule, block, cell.lines, f"{FILE}.csv", text, values, **more)


def _rule(rule: str, method: str) -> str:
    """A method that is not the paper's is not held against its claims."""
    return f"{rule}_ours" if method in OURS else rule


def _beside(cell: Comparison) -> str:
    first, *others = cell.means
    return f"{first:.2f} beside {' and '.join(f'{mean:.2f}' for mean in others)}"


def _with_error(mean: float, error: float) -> str:
    """A mean difference with its error, which a single value does not have."""
    return f"{mean:+.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")
