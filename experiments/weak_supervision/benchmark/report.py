"""Writes the results: JSON (everything), CSV (the comparisons) and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from experiments.benchmark.environment import place
from experiments.common.store import write_atomically
from experiments.weak_supervision.benchmark.run import Benchmark, SizeComparison
from experiments.weak_supervision.benchmark.sides import HG, HG_INITIAL

# Column -> attribute of a row.
COLUMNS = {
    "side": "work", "beside": "other_side", "size": "size", "batch": "batch", "seconds_per_step": "ours",
    "ratio": "ratio", "lowest_ratio": "lowest_ratio", "highest_ratio": "highest_ratio", "target": "target",
    "reached": "reached", "peak_memory_mib": "peak_memory_mib", "training_memory_mib": "training_memory_mib",
    "dtype": "dtype", "note": "note",
}  # fmt: skip


def table(benchmark: Benchmark) -> pd.DataFrame:
    """One line per comparison; ``size`` in pixels a side, ``batch`` in pairs."""
    return pd.DataFrame([{name: getattr(row, key) for name, key in COLUMNS.items()} for row in benchmark.rows])


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _heading(benchmark: Benchmark) -> Iterator[str]:
    settings = benchmark.settings[0]
    yield from ("# Training on image pairs: seconds per step", "", place(benchmark.environment), "")
    yield (
        "The shipped images of mpi3d_sim, pairs drawn and loaded in the loop. The project's sides are runs of a "
        f"method's row with their Lightning trainer and logger (W&B: {settings.logger}), in chunks of "
        f"{settings.warm_up} steps, at the temperature that the paper's annealing ends with unless the name says that "
        "it is the one that it starts with. `plain` is LabelVAE and its networks written apart, with a bare loop: each "
        "view has its own call of encoder and decoder, images as [batch, channel, row, column], torch's default Adam, "
        "no logger. All sides take turns in one process, "
        f"{settings.rounds} rounds of {settings.steps} steps after {settings.warm_up} that are left out. Seconds are "
        "medians; ratios are medians of the ratios of a round, with the lowest and the highest. The end of an epoch "
        "isn't counted."
    )
    if settings.memory:
        yield ""
        yield (
            "Memory: of a process of its own per side (on a GPU: of tensors there) at the peak of the training, all "
            "images included, and what the training added to it."
        )
    if not settings.judged:
        yield from ("", "Tiny sizes: overheads are what is measured here, so nothing is held against a target.")


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _cells(row: SizeComparison) -> list[str]:
    spread = "" if row.lowest_ratio is None else f"{row.lowest_ratio:.3f} to {row.highest_ratio:.3f}"
    return [
        row.work, f"{row.ours:.4f}", row.other_side, f"{row.other:.4f}", f"{row.ratio:.3f}", spread, row.target,
        row.reached, _mebibytes(row.peak_memory_mib), _mebibytes(row.training_memory_mib), row.note,
    ]  # fmt: skip


def _sizes(benchmark: Benchmark) -> Iterator[str]:
    header = (
        "side", "s/step", "beside", "s/step", "ratio", "rounds", "to reach", "reached", "peak MiB", "training MiB",
        "note",
    )  # fmt: skip
    for settings in benchmark.settings:
        yield f"## {settings.size}"
        rows = [row for row in benchmark.rows if (row.size, row.batch) == (settings.image_size, settings.batch_size)]
        yield from _lines(header, [_cells(row) for row in rows])
        yield from _schedule(benchmark, rows)
        yield from _parts(benchmark, settings.size)


def _schedule(benchmark: Benchmark, rows: Sequence[SizeComparison]) -> Iterator[str]:
    ratio = {row.work: row.ratio for row in rows}
    final, initial, above = ratio[HG], ratio[HG_INITIAL], benchmark.share_above_one
    assert final is not None and initial is not None
    yield (
        f"Above temperature 1 HGVAE draws in another way; that is {above:.1%} of a run's steps in the paper's "
        f"schedule. A whole run therefore takes {above * initial + (1 - above) * final:.3f} times LabelVAE's."
    )
    yield ""


def _parts(benchmark: Benchmark, size: str) -> Iterator[str]:
    yield "### Where a step's time goes (milliseconds, the project's sides)"
    parts = benchmark.parts[size]
    totals = {method: sum(values.values()) for method, values in parts.items()}
    names = next(iter(parts.values()))
    rows = [
        [name, *(f"{parts[method][name]:.2f} ({parts[method][name] / totals[method]:.1%})" for method in parts)]
        for name in names
    ]
    yield from _lines(["part", *parts], [*rows, ["whole step", *(f"{total:.2f}" for total in totals.values())]])


def markdown(benchmark: Benchmark) -> str:
    """The tables and what they need to be understood."""
    lines = [*_heading(benchmark), "", *_sizes(benchmark)]
    if benchmark.skipped:
        lines += ["## Skipped", "", *(f"- {reason}" for reason in benchmark.skipped), ""]
    return "\n".join(lines)


def write(benchmark: Benchmark, directory: Path) -> list[Path]:
    """Writes all files into ``directory`` and returns their paths."""
    everything = {
        "environment": benchmark.environment,
        "settings": [asdict(settings) for settings in benchmark.settings],
        "rows": table(benchmark).astype(object).where(lambda frame: frame.notna(), None).to_dict("records"),
        "seconds_per_step": benchmark.seconds,
        "parts_milliseconds": benchmark.parts,
        "compile_seconds": benchmark.compile_seconds,
        "share_above_temperature_one": benchmark.share_above_one,
        "skipped": benchmark.skipped,
    }
    texts = {
        "weak_supervision.json": json.dumps(everything, indent=1) + "\n",
        "weak_supervision.csv": table(benchmark).to_csv(index=False),
        "weak_supervision.md": markdown(benchmark),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [directory / name for name in texts]
