"""Draws figures/gradient_study.{png,pdf} and writes tables/gradient_study.md from metrics/gradient_study.csv."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.figures import draw
from experiments.gradient_study.figures import figures
from experiments.gradient_study.tables import tables
from experiments.settings import one_line_errors
from experiments.tables import write


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of the CSV (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        draw(figures(options.metrics), options.output / "figures")
        write(tables(options.metrics), options.output / "tables")


if __name__ == "__main__":
    main()
