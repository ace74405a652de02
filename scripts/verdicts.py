"""Holds each claim against the collected metrics, by the rules of experiments/verdicts, fixed before the numbers.

Verdicts: reproduced, close, not reproduced, not comparable (the numbers it needs are not there). Prints a table and
writes it to <output>/verdicts.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.errors import ExperimentError
from experiments.common.store import write_atomically
from experiments.verdicts.clustering import clustering
from experiments.verdicts.kolmogorov_smirnov import kolmogorov_smirnov
from experiments.verdicts.urn import urn
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.weak_supervision import weak_supervision

ROOMS: dict[str, Callable[[Path], list[Verdict]]] = {
    "kolmogorov_smirnov": kolmogorov_smirnov,
    "urn": urn,
    "weak_supervision": weak_supervision,
    "clustering": clustering,
}


def to_markdown(verdicts: list[Verdict]) -> str:
    """Returns the verdicts as a table."""
    lines = ["# Verdicts", "", "The rules stand in `experiments/verdicts`.", ""]
    lines += ["| claim | rule | measured | verdict |", "|---|---|---|---|"]
    lines += [f"| {one.claim} | {one.rule} | {one.measured} | {one.verdict} |" for one in verdicts]
    return "\n".join(lines) + "\n"


def show(verdicts: list[Verdict]) -> None:
    """Prints the verdicts."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("claim", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for one in verdicts:
        table.add_row(one.claim, one.measured, one.verdict)
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    verdicts: list[Verdict] = []
    try:
        for room, judge in ROOMS.items():
            if (options.metrics / f"{room}_metrics.csv").is_file():
                verdicts += judge(options.metrics)
        if not verdicts:
            raise ExperimentError(f"{options.metrics} holds no metrics of {', '.join(ROOMS)}")
        options.output.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output / "verdicts.md", to_markdown(verdicts))
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.output}: {error.strerror}")
    show(verdicts)


if __name__ == "__main__":
    main()
