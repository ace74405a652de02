"""Writes the results: JSON (everything), CSV (the comparisons) and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from experiments.benchmark.environment import place
from experiments.clustering.benchmark.profile import PRIOR_ALONE
from experiments.clustering.benchmark.run import PROJECT, Benchmark
from experiments.common.store import write_atomically

COLUMNS = (
    "prior", "work", "ours", "other_side", "other", "unit", "ratio", "lowest_ratio", "highest_ratio", "target",
    "reached", "dtype", "note",
)  # fmt: skip


def table(benchmark: Benchmark) -> pd.DataFrame:
    """One line per comparison."""
    return pd.DataFrame([{name: getattr(row, name) for name in COLUMNS} for row in benchmark.rows])


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _heading(benchmark: Benchmark) -> Iterator[str]:
    settings = benchmark.settings[0]
    yield from ("# Training of the VaDE: steps per second", "", place(benchmark.environment), "")
    widths = "-".join(str(width) for width in settings.widths)
    yield (
        f"Random images, batches of {settings.batch_size}, encoder {widths} and its mirror. The project's side is a "
        f"run with its Lightning trainer and its logger (W&B: {settings.logger}); the plain loop is a network and a "
        "loss written apart, images in one float32 tensor, fused Adam, no logger. All sides take turns in one process, "
        f"{settings.rounds} rounds of {settings.steps} steps after {settings.warm_up} that are left out (with S seeds "
        "at once an S-th of both, and the rate is multiplied by S). Rates are medians; ratios are medians of the "
        "ratios of a round, with the lowest and the highest. The end of an epoch counts apart, below."
    )
    if not settings.judged:
        yield from ("", "Tiny sizes: overheads are what is measured here, so nothing is held against a target.")


def _comparisons(benchmark: Benchmark) -> Iterator[str]:
    rows = [
        [
            row.prior, row.work, f"{row.ours:.1f}", row.other_side, f"{row.other:.1f}", row.unit, f"{row.ratio:.3f}",
            f"{row.lowest_ratio:.3f} to {row.highest_ratio:.3f}", row.target, row.reached, row.note,
        ]
        for row in benchmark.rows
    ]  # fmt: skip
    header = ("prior", "side", "rate", "beside", "rate", "unit", "ratio", "rounds", "to reach", "reached", "note")
    yield from _lines(header, rows)


def _parts(benchmark: Benchmark) -> Iterator[str]:
    yield "## Where a step's time goes (milliseconds, the project's side)"
    priors = list(benchmark.parts)
    names = list(benchmark.parts[priors[0]])
    totals = {
        prior: sum(value for name, value in parts.items() if name != PRIOR_ALONE)
        for prior, parts in benchmark.parts.items()
    }
    rows = []
    for name in names:
        values = [benchmark.parts[prior][name] for prior in priors]
        shares = [f"{value:.2f} ({value / totals[prior]:.1%})" for prior, value in zip(priors, values)]
        rows.append([name, *shares])
    rows.insert(len(rows) - 1, ["whole step", *(f"{totals[prior]:.2f}" for prior in priors)])
    yield from _lines(["part", *priors], rows)


def _ends(benchmark: Benchmark) -> Iterator[str]:
    settings = benchmark.settings[0]
    yield "## The end of an epoch"
    yield ""
    for prior, seconds in benchmark.ends.items():
        median = float(pd.Series(seconds).median())
        rate = float(pd.Series(benchmark.rates[prior][PROJECT]).median())
        share = median / (settings.epoch_steps / rate + median)
        yield (
            f"- {prior}: {median:.2f} s for the check of all weights, the scores on {settings.test_digits:,} test "
            f"digits and the checkpoint: {share:.1%} of an epoch of {settings.epoch_steps} steps."
        )
    for prior, compiling in benchmark.compile_seconds.items():
        yield f"- {prior}: the first compiled step takes {compiling:.0f} s, without any cache of the compiler."


def markdown(benchmark: Benchmark) -> str:
    """The tables and what they need to be understood."""
    sections = (_heading, _comparisons, _parts, _ends)
    lines = [line for section in sections for line in section(benchmark)]
    if benchmark.skipped:
        lines += ["", "## Skipped", "", *(f"- {reason}" for reason in benchmark.skipped)]
    return "\n".join(lines) + "\n"


def write(benchmark: Benchmark, directory: Path) -> list[Path]:
    """Writes all files into ``directory`` and returns their paths."""
    everything = {
        "environment": benchmark.environment,
        "settings": [asdict(settings) for settings in benchmark.settings],
        "rows": table(benchmark).to_dict("records"),
        "rates": benchmark.rates,
        "parts_milliseconds": benchmark.parts,
        "end_of_epoch_seconds": benchmark.ends,
        "compile_seconds": benchmark.compile_seconds,
        "skipped": benchmark.skipped,
    }
    texts = {
        "clustering.json": json.dumps(everything, indent=1) + "\n",
        "clustering.csv": table(benchmark).to_csv(index=False),
        "clustering.md": markdown(benchmark),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [directory / name for name in texts]
