"""Measures the claims of Appendix C.2 beside the main tables: Figures 11 and 13, run times (Table 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from experiments.common.errors import ExperimentError
from experiments.common.paper import read_paper
from experiments.common.provenance import Provenance
from experiments.disentanglement.pages import SCORES
from experiments.verdicts.rules import Measurement, too_few
from experiments.weak_supervision.blocks import ABLATION, DISENTANGLEMENT, Block, read_blocks
from experiments.weak_supervision.runtimes import benchmark_file, describe_setting, paper_ratio, read_benchmark

HOUR = 3600.0
BENCHMARK_DATA = "mpi3d_sim"  # what the benchmark trains on
SIDES = {"hgvae": "table_3_hgvae", "ada_vae": "table_3_ada_vae"}


def weak_supervision_studies(metrics: Path) -> list[Measurement]:
    """Appendix C.2, each profile and data set by itself, and the benchmark."""
    measured = []
    for block in read_blocks(metrics):
        measured += [_move_together(block), *_ablation(block), _hours(block)]
    return measured + _runtimes(metrics)


def _lines(block: Block, room: str) -> pd.DataFrame:
    """Another room's metrics on this block; empty where they are not there."""
    try:
        return block.of_room(room, "metrics")
    except ExperimentError:
        return pd.DataFrame(columns=["row", "method", "shared", "seed"])


def _move_together(block: Block) -> Measurement:
    table = _lines(block, DISENTANGLEMENT)
    missing, values, text = too_few("figure_11", table["seed"].nunique()), [], "no run"
    if len(table):
        means = table.groupby(["method", "shared", "score"])["value"].mean().unstack("score")
        others = [score for score in SCORES if score != "downstream" and score in means]
        correlations = [float(spearmanr(means[score], means["downstream"]).statistic) for score in others]
        mean = sum(correlations) / len(correlations)
        text = f"{mean:.2f}, from {min(correlations):.2f} to {max(correlations):.2f} over {len(others)} scores"
        values = [] if missing else [(mean, 1.0)]
    file = f"{DISENTANGLEMENT}_metrics.csv"
    short = text if len(table) else ""
    return Measurement("figure_11", text, values, table, file, block.profile, block.data, short=short, missing=missing)


def _ablation(block: Block) -> list[Measurement]:
    table = _lines(block, ABLATION)
    own = block.runs("hgvae")
    measured = []
    for name in sorted(set(table["row"])):
        variant = name.split("/")[-1]
        part = table[table["row"] == name]
        pairs = part.merge(own[own["shared"] == 3], on="seed", suffixes=("", "_own"))
        if variant.startswith("final_temperature"):
            rule, column = "figure_13_temperature", "expected_count"
        elif variant == "learning_rate_high":
            rule, column = "figure_13_learning_rate", "per_view_bound"
        else:
            continue
        missing = too_few(rule, len(pairs))
        by_seed = (pairs[column] - pairs[f"{column}_own"]).tolist()
        difference = sum(by_seed) / len(by_seed) if by_seed else 0.0
        bound = column.endswith("bound")
        unit, value = ("nats per image", difference) if bound else ("latents", abs(difference))
        text = f"{difference:+.2f} {unit}" if by_seed else missing
        if len(by_seed) > 1:  # one seed that collapses can make a mean
            text += f" (by seed {', '.join(f'{one:+.2f}' for one in by_seed)})"
        measured.append(
            Measurement(
                rule,
                text,
                [] if missing else [(value, 1.0)],
                pd.concat([part, own[(own["shared"] == 3) & own["seed"].isin(part["seed"])]]),
                f"{ABLATION}_metrics.csv, weak_supervision_metrics.csv",
                block.profile,
                block.data,
                {"variant": variant.replace("final_temperature_", "").replace("_", ".")},
                part=variant,
                short=text if by_seed else "",
                missing=missing,
            )
        )
    return measured


def _hours(block: Block) -> Measurement:
    runs = block.runs("hgvae")
    hours = runs["seconds"].median() / HOUR
    missing = "" if hours == hours else "no run without interruption"
    return Measurement(
        "weak_supervision_time",
        missing or f"{hours:.2f} hours",
        [] if missing else [(hours, 1.0)],
        runs,
        "weak_supervision_metrics.csv",
        block.profile,
        block.data,
        short="" if missing else f"{hours:.2f} h",
        missing=missing,
    )


def _runtimes(metrics: Path) -> list[Measurement]:
    """Table 3, for every setting of the benchmark that belongs to the metrics."""
    file = benchmark_file(metrics)
    try:
        benchmark = read_benchmark(file)
    except ExperimentError:
        return [Measurement(rule, "no benchmark", missing="no benchmark") for rule in SIDES.values()]
    paper, measured = read_paper("table_3"), []
    for side, rule in SIDES.items():
        for line in benchmark[benchmark["side"] == side].itertuples():
            ratio, reported = float(line.ratio), paper_ratio(paper, side)
            setting = describe_setting(line.device, line.size, line.batch)
            measured.append(
                Measurement(
                    rule,
                    f"{ratio:.3f} times; benchmark, {setting}",
                    [(ratio, 1.0)],
                    data=BENCHMARK_DATA,
                    part=setting,
                    short=f"{ratio:.2f} times",
                    paper=f"{reported:.2f} times",
                    difference=f"{ratio - reported:+.2f}",
                    origin=_benchmark_origin(file),
                )
            )
    return measured


def _benchmark_origin(file: Path) -> Provenance | None:
    """Where the benchmark says that it was run."""
    notes = file.with_suffix(".json")
    if not notes.is_file():
        return None
    facts: dict[str, Any] = json.loads(notes.read_text())["environment"]
    return Provenance(
        profile="benchmark",
        data=BENCHMARK_DATA,
        seeds=(),
        device=facts["device"],
        seconds="seconds per step, in turns",
        commits=(f"{facts['commit']:.10}{' with changes' if facts['dirty'] else ''}",),
        torch=facts["packages"]["torch"],
        runs=(),
        source=f"benchmark/{file.name}",
    )
