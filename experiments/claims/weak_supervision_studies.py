"""Measures the claims of Appendix C.2 beside the main tables: Figures 11 and 13, run times (Table 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from experiments.claims.rules import Measurement, hours, measure
from experiments.claims.weak_supervision import DATA, FILE, runs_of
from experiments.results import Block, blocks, read_metrics, read_paper
from experiments.settings import ExperimentError
from experiments.speed.tables import benchmark_provenance
from experiments.weak_supervision.blocks import of_number
from experiments.weak_supervision.methods import PAPER_METHODS
from experiments.weak_supervision.runtimes import benchmark_file, describe_setting, paper_ratio, read_benchmark

SCORES = ("beta_vae", "factor_vae", "mig", "dci_disentanglement", "sap", "modularity")  # of Figure 11
DOWNSTREAM = "downstream"
SHARED = 3  # s of Figure 13
BENCHMARK_DATA = "mpi3d_sim"  # what the benchmark trains on
SIDES = {"hgvae": "table_3_hgvae", "ada_vae": "table_3_ada_vae"}


def weak_supervision_studies(metrics: Path) -> list[Measurement]:
    """Appendix C.2, each profile and data set by itself, and the benchmark."""
    measured = []
    changed = of_number(read_metrics(metrics, FILE, changes=True).query("changes != ''"))
    for block in blocks(of_number(read_metrics(metrics, FILE)), DATA):
        measured += [_move_together(block, metrics), *_figure_13(block, _same(changed, block))]
        measured.append(hours("weak_supervision_time", block, runs_of(block, "hgvae"), f"{FILE}.csv"))
    return measured + _runtimes(metrics)


def _same(table: pd.DataFrame, block: Block) -> pd.DataFrame:
    return table[(table["profile"] == block.profile) & (table["data"] == block.data)]


def _move_together(block: Block, metrics: Path) -> Measurement:
    """Figure 11."""
    rule, file = "figure_11", "disentanglement_metrics"
    try:
        table = _same(read_metrics(metrics, file), block)
    except ExperimentError:
        return Measurement(rule, missing="no run", block=block)
    table = table[table["method"].isin(PAPER_METHODS)]  # what is ours says nothing of the paper's plots
    if table.empty:
        return Measurement(rule, missing="no run", block=block)
    means = table.groupby(["method", "shared", "score"])["value"].mean().unstack("score")
    correlations = [float(spearmanr(means[one], means[DOWNSTREAM]).statistic) for one in SCORES if one in means]
    mean = sum(correlations) / len(correlations)
    text = f"{mean:.2f}, from {min(correlations):.2f} to {max(correlations):.2f} over {len(correlations)} scores"
    seeds = table["seed"].nunique()
    return measure(rule, block, table, f"{file}.csv", text, [(mean, 1.0)], seeds=seeds)


def _figure_13(block: Block, changed: pd.DataFrame) -> list[Measurement]:
    """HGVAE at other temperatures and at higher learning rates, beside its own runs on the same seeds."""
    own = runs_of(block, "hgvae", SHARED)
    part = changed[(changed["method"] == "hgvae") & (changed["shared"] == SHARED)]
    measured = []
    for change, lines in part.groupby("changes"):
        setting, _, value = str(change).removeprefix("training.").partition("=")
        pairs = lines.merge(own, on="seed", suffixes=("", "_own"))
        if " " in value:  # another setting was changed as well
            continue
        if setting == "final_temperature":
            rule, column, unit = "figure_13_temperature", "expected_count", "latents"
        elif setting == "learning_rate" and (pairs["learning_rate"] > pairs["learning_rate_own"]).all():
            rule, column, unit = "figure_13_learning_rate", "per_view_bound", "nats per image"
        else:
            continue
        by_seed = (pairs[column] - pairs[f"{column}_own"]).tolist()
        difference = sum(by_seed) / len(by_seed) if by_seed else 0.0
        text = f"{difference:+.2f} {unit}" if by_seed else ""
        if len(by_seed) > 1:  # one seed that collapses can make a mean
            text += f" (by seed {', '.join(f'{one:+.2f}' for one in by_seed)})"
        values = [(abs(difference) if unit == "latents" else difference, 1.0)]
        both = pd.concat([lines, own[own["seed"].isin(lines["seed"])]])
        more: dict[str, Any] = {"seeds": len(pairs), "fills": {"variant": value}}
        more["part"] = f"{setting.replace('_', ' ')} {value}"
        measured.append(measure(rule, block, both, f"{FILE}.csv", text, values, **more))
    return measured


def _runtimes(metrics: Path) -> list[Measurement]:
    """Table 3, for every setting of the benchmark that belongs to the metrics."""
    file = benchmark_file(metrics)
    try:
        benchmark = read_benchmark(file)
        origin = benchmark_provenance(file.with_suffix(".json"), BENCHMARK_DATA, "seconds per step, in turns")
    except ExperimentError:
        return [Measurement(rule, missing="no benchmark") for rule in SIDES.values()]
    block, paper, measured = Block("", BENCHMARK_DATA, benchmark), read_paper("table_3"), []
    for side, rule in SIDES.items():
        for line in benchmark[benchmark["side"] == side].itertuples():
            ratio, reported = float(line.ratio), paper_ratio(paper, side)
            setting = describe_setting(line.device, line.size, line.batch)
            measured.append(
                Measurement(
                    rule,
                    f"{ratio:.3f} times; benchmark, {setting}",
                    [(ratio, 1.0)],
                    block,
                    part=setting,
                    short=f"{ratio:.2f} times",
                    paper=f"{reported:.2f} times",
                    difference=f"{ratio - reported:+.2f}",
                    origin=origin,
                )
            )
    return measured
