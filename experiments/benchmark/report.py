"""Write the benchmark's results: JSON (everything), CSV (the rows; the scaling) and a Markdown table."""

import json
from pathlib import Path

import pandas as pd

from experiments.benchmark.environment import place
from experiments.benchmark.run import Benchmark
from experiments.common.store import write_atomically


def table(benchmark: Benchmark) -> pd.DataFrame:
    """One line per comparison."""
    columns = ("work", "ours", "other_side", "other", "unit", "ratio", "target", "reached", "dtype", "note")
    return pd.DataFrame([{name: getattr(row, name) for name in columns} for row in benchmark.rows])


def _number(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(benchmark: Benchmark) -> str:
    """The table and what it needs to be understood."""
    settings = benchmark.settings
    urn = f"m = {settings.group_sizes}, n = {settings.total_count}, weights {settings.weights}"
    method = (
        f"Unless the row says otherwise the urn is {urn}; temperature {settings.temperature}. Every side runs in a "
        f"process of its own, in turns; the figures are medians over {settings.rounds} rounds of {settings.repeats} "
        "repeats, the construction of the distribution included. Ratio = ours / theirs."
    )
    if not settings.judged:
        method += " Tiny sizes: overheads are what is measured here, so nothing is held against a target."
    lines = [
        "# Benchmark",
        "",
        place(benchmark.environment),
        "",
        method,
        "",
        "| work | ours | beside | theirs | unit | ratio | to reach | reached | dtype | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in benchmark.rows:
        numbers = (_number(row.ours), row.other_side, _number(row.other), row.unit, _number(row.ratio))
        lines.append("| " + " | ".join((row.work, *numbers, row.target, row.reached, row.dtype, row.note)) + " |")
    lines += ["", "## Precision", ""]
    lines += [
        f"- {dtype}: largest total-variation distance of a conditional law from the float64 convolution "
        f"{values['conditionals']:.1e}; histogram of the first group in {settings.draws:,} draws of `sample` "
        f"{values['sample']:.1e}, where perfect sampling gives {values['sample_expected']:.1e} on average."
        for dtype, values in benchmark.precision.items()
    ]
    if benchmark.scaling:
        frame = pd.DataFrame(benchmark.scaling)
        lines += [
            "",
            f"## Milliseconds over groups and total count (sizes 2n / groups, {settings.scaling_draws} draws)",
        ]
        for work, part in frame.groupby("work"):
            grid = part.pivot(index="groups", columns="total_count", values="seconds") * 1e3
            lines += ["", f"`{work}`", "", "| groups | " + " | ".join(f"n = {n:,}" for n in grid.columns) + " |"]
            lines.append("|---" * (len(grid.columns) + 1) + "|")
            lines += [f"| {groups} | " + " | ".join(map(_number, cells)) + " |" for groups, cells in grid.iterrows()]
    if benchmark.skipped:
        lines += ["", "## Skipped", ""] + [f"- {reason}" for reason in benchmark.skipped]
    return "\n".join(lines) + "\n"


def write(benchmark: Benchmark, directory: Path) -> list[Path]:
    """Write all files into ``directory`` and return their paths."""
    everything = {
        "environment": benchmark.environment,
        "settings": benchmark.settings.as_dict(),
        "rows": table(benchmark).astype(object).where(lambda frame: frame.notna(), None).to_dict("records"),
        "precision": benchmark.precision,
        "scaling": benchmark.scaling,
        "seconds": benchmark.seconds,
        "skipped": benchmark.skipped,
    }
    texts = {
        "benchmark.json": json.dumps(everything, indent=1) + "\n",
        "benchmark.csv": table(benchmark).to_csv(index=False),
        "scaling.csv": pd.DataFrame(benchmark.scaling).to_csv(index=False),
        "benchmark.md": markdown(benchmark),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [directory / name for name in texts]
