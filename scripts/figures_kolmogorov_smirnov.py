"""Draws Figures 1, 4, 9 and 10 from the collected metrics, each with the truth beside the paper's claim."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.figures import draw
from experiments.kolmogorov_smirnov.figures import PLANS, figures
from experiments.settings import one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/figures"), help="folder (%(default)s)")
    parser.add_argument("--figure", type=int, choices=sorted(PLANS), help="only this figure (default: all)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        every = figures(options.metrics)
        name = f"figure_{options.figure}"
        draw({name: every[name]} if options.figure else every, options.output)


if __name__ == "__main__":
    main()
