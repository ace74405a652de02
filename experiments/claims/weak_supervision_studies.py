"""Measures the claims of Appendix C.2 beside the main tables: Figures 11 and 13, run times (Table 3)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from experiments.claims.comparison import widened
from experiments.claims.rules import Measurement, hours, measure
from experiments.claims.weak_supervision import DATA, FILE, runs_of
from experiments.results import Block, blocks, read_metrics, read_paper
from experiments.settings import ExperimentError
from experiments.speed.tables import benchmark_provenance
from experiments.weak_supervision.blocks import of_number
from experiments.weak_supervision.methods import PAPER_METHODS
from experiments.weak_supervision.runtimes import (
    SETTING,
    benchmark_file,
    describe_setting,
    paper_ratio,
    read_benchmark,
)

NATS = "nats per image"
SCORES = ("beta_vae", "factor_vae", "mig", "dci_disentanglement", "sap", "modularity")  # of Figure 11
DOWNSTREAM = "downstream"
SHARED = 3  # s of Figure 13
BENCHMARK_DATA = "mpi3d_sim"  # what the benchmark trains on
RATIOS = {  # rule -> side, side it is held against
    "table_3_hgvae": ("hgvae", "label_vae"),
    "table_3_ada_vae": ("ada_vae", "label_vae"),
    "table_3_order": ("hgvae", "ada_vae"),
}


def weak_supervision_studies(metrics: Path) -> list[Measurement]:
    """Appendix C.2, each profile and data set by itself, and the benchmark."""
    measured = []
    losses = _losses(metrics)
    changed = of_number(read_metrics(metrics, FILE, changes=True).query("changes != ''"))
    for block in blocks(of_number(read_metrics(metrics, FILE)), DATA):
        measured += [_move_together(block, metrics), *_figure_13(block, _same(changed, block), losses)]
        measured.append(hours("weak_supervision_time", block, runs_of(block, "hgvae"), f"{FILE}.csv"))
    return measured + _runtimes(metrics)


def _same(table: pd.DataFrame, block: Block) -> pd.DataFrame:
    return table[(table["profile"] == block.profile) & (table["data"] == block.data)]


def _move_together(block: Block, metrics: Path) -> Measurement:
    """Figure 11."""
    rule, file = "figure_11", "disentanglement_metrics"
    try:
        table = _same(of_number(read_metrics(metrics, file)), block)
    except ExperimentError:
        return Measurement(rule, missing="no run", block=block)
    table = table[table["method"].isin(PAPER_METHODS)]  # what is ours says nothing of the paper's plots
    if table.empty:
        return Measurement(rule, missing="no run", block=block)
    means = table.groupby(["method", "shared", "score"])["value"].mean().unstack("score")
    shown = [one for one in SCORES if one in means and DOWNSTREAM in means]
    if not shown:
        return Measurement(rule, missing=f"no run with {DOWNSTREAM} accuracy and another score", block=block)
    undefined = [one for one in (*shown, DOWNSTREAM) if means[one].isna().any() or means[one].nunique() < 2]
    if undefined:
        why = f"{', '.join(undefined)}: without a value in some cell, or the same in all"
        return measure(rule, block, table, f"{file}.csv", missing=why)
    correlations = [float(spearmanr(means[one], means[DOWNSTREAM]).statistic) for one in shown]
    mean = sum(correlations) / len(correlations)
    text = f"{mean:.2f}, from {min(correlations):.2f} to {max(correlations):.2f} over {len(correlations)} scores"
    seeds = int(table.groupby(["method", "shared"])["seed"].nunique().min())
    return measure(rule, block, table, f"{file}.csv", text, [(mean, 1.0)], seeds=seeds)


def _figure_13(block: Block, changed: pd.DataFrame, losses: pd.Series) -> list[Measurement]:
    """HGVAE at other temperatures and at higher learning rates, beside its own runs on the same seeds.

    Args:
        block: profile and data.
        changed: runs with changed settings.
        losses: training loss of the last part of the training by run id, in nats per image.
    """
    own = runs_of(block, "hgvae", SHARED)
    part = changed[(changed["method"] == "hgvae") & (changed["shared"] == SHARED)]
    measured = []
    for change, lines in part.groupby("changes"):
        setting, _, value = str(change).removeprefix("training.").partition("=")
        if " " in value:  # another setting was changed as well
            continue
        pairs = lines.merge(own, on="seed", suffixes=("", "_own"))
        pairs = pairs.assign(loss=pairs["run_id"].map(losses), loss_own=pairs["run_id_own"].map(losses))
        runs = pd.concat([lines, own[own["seed"].isin(lines["seed"])]])
        counts, with_loss = _differences(pairs, "expected_count"), pairs.dropna(subset=["loss", "loss_own"])
        alive = with_loss[2 * with_loss["active_latents"] > with_loss["active_latents_own"]]
        if setting == "final_temperature":
            rules = {"temperature": (counts, "latents"), "temperature_loss": (_differences(with_loss, "loss"), NATS)}
        elif setting == "learning_rate" and (lines["learning_rate"] > own["learning_rate"].max()).all():
            losses_of = {"learning_rate": with_loss, "learning_rate_alive": alive}
            rules = {name: (_differences(part, "loss"), NATS) for name, part in losses_of.items()}
            measured.append(_consistency(block, pairs, runs, _told(setting, value, len(pairs))))
        else:
            continue
        for name, (by_seed, unit) in rules.items():
            difference = sum(by_seed) / len(by_seed) if by_seed else 0.0
            text = f"{difference:+.2f} {unit}" if by_seed else ""
            if len(set(by_seed)) > 1:  # one seed that collapses can make a mean
                text += f" (by seed {', '.join(f'{one:+.2f}' for one in by_seed)})"
            values = [(abs(one), 1.0) for one in by_seed]
            if "temperature" not in name:
                error = float(pd.Series(by_seed, dtype=float).sem())
                values = [(difference, widened(error, len(by_seed)))]
            more = _told(setting, value, len(by_seed))
            measured.append(measure(f"figure_13_{name}", block, runs, f"{FILE}.csv", text, values, **more))
    return measured


def _told(setting: str, value: str, seeds: int) -> dict[str, Any]:
    return {"seeds": seeds, "fills": {"variant": value}, "part": f"{setting.replace('_', ' ')} {value}"}


def _consistency(block: Block, pairs: pd.DataFrame, runs: pd.DataFrame, more: dict[str, Any]) -> Measurement:
    """The spread of the estimate between seeds, beside that at the row's own settings."""
    changed, own = pairs["expected_count"].std(), pairs["expected_count_own"].std()
    text = f"standard deviation {changed:.2f} beside {own:.2f} latents"
    values = [(math.nan if changed == own == 0 else changed, own)]
    return measure("figure_13_consistency", block, runs, f"{FILE}.csv", text, values, **more)


def _differences(pairs: pd.DataFrame, column: str) -> list[float]:
    """A number less that of the method's own settings, seed by seed."""
    found: list[float] = (pairs[column] - pairs[f"{column}_own"]).tolist()
    return found


def _losses(metrics: Path) -> pd.Series:
    """Training loss of the last epoch by run id; empty without a history."""
    try:
        history = read_metrics(metrics, "weak_supervision_history", changes=True)
    except ExperimentError:
        return pd.Series(dtype=float)
    return -history.sort_values("epoch").groupby("run_id")["bound"].last()


def _runtimes(metrics: Path) -> list[Measurement]:
    """Table 3, for every setting of the benchmark that belongs to the metrics."""
    file = benchmark_file(metrics)
    try:
        benchmark = read_benchmark(file)
        origin = benchmark_provenance(file.with_suffix(".json"), BENCHMARK_DATA, "seconds per step, in turns")
    except ExperimentError:
        return [Measurement(rule, missing="no benchmark") for rule in RATIOS]
    block, paper, measured = Block("", BENCHMARK_DATA, benchmark), read_paper("table_3"), []
    for rule, (side, other) in RATIOS.items():
        both = benchmark[benchmark["side"] == side].merge(benchmark[benchmark["side"] == other], on=SETTING)
        for line in both.itertuples():
            ratio, reported = line.ratio_x / line.ratio_y, paper_ratio(paper, side) / paper_ratio(paper, other)
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
