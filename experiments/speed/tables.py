"""The tables of the benchmarks and how they were measured, from the committed files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from experiments.results import UNKNOWN, Provenance
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table

PRECISE_FROM = 100.0  # values from here on are written without decimals


def benchmark_provenance(path: Path, data: str = "drawn", seconds: str = UNKNOWN) -> Provenance:
    """Returns where the numbers of a benchmark come from.

    Args:
        path: JSON of the benchmark, with ``environment``.
        data: What it was measured on.
        seconds: What it says of times, in words.

    Raises:
        ExperimentError: it isn't there or can't be read.
    """
    try:
        facts = json.loads(path.read_text())["environment"]
        commit = f"{facts['commit']:.10}{' with changes' if facts['dirty'] else ''}"
        return Provenance(
            profile="benchmark",
            data=data,
            seeds=(),
            device=f"{facts['device']}, {facts['cores']} cores, {facts['threads']} thread(s)",
            seconds=seconds,
            commits=(commit,),
            torch=facts["packages"]["torch"],
            runs=(),
            source=f"{path.parent.name}/{path.name}",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{path} can't be read as a benchmark ({type(error).__name__}): run it again") from None


def comparison_table(folder: Path, name: str, title: str) -> Table:
    """One line per comparison of a benchmark.

    Args:
        folder: Folder of ``<name>.csv`` and ``<name>.json``.
        name: Name of the benchmark.
        title: Of the table.

    Raises:
        ExperimentError: a file isn't there or can't be read.
    """
    made = benchmark_provenance(folder / f"{name}.json")
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run the benchmark first")
    lines = pd.read_csv(path)
    texts = ["target", "reached", "note"]
    lines[texts] = lines[texts].astype(object).fillna("")
    rows = []
    for line in lines.to_dict("records"):
        work = f"{line['prior']}: {line['work']}" if "prior" in line else line["work"]
        numbers = [_number(line["ours"]), line["other_side"], _number(line["other"]), line["unit"]]
        rows.append([work, *numbers, _number(line["ratio"]), *(str(line[text]) for text in texts)])
    header = ["work", "ours", "beside", "theirs", "unit", "ratio", "to reach", "reached", "note"]
    return Table(title, header, rows, [made] * len(rows))


def _number(value: float) -> str:
    if pd.isna(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= PRECISE_FROM else f"{value:.3g}"
