"""Draws Figures 1, 4, 9 and 10 from the collected metrics, each with the truth beside the paper's claim."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import matplotlib.pyplot as plt

from experiments.common.figures import STYLE, read_table, save
from experiments.common.one_line_errors import one_line_errors
from experiments.kolmogorov_smirnov.figures import PLANS, draw


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/figures"), help="folder (%(default)s)")
    parser.add_argument("--figure", type=int, choices=sorted(PLANS), help="only this figure (default: all)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        metrics = read_table(options.metrics, "kolmogorov_smirnov_metrics")
        histograms = read_table(options.metrics, "kolmogorov_smirnov_histograms")
        for number in [options.figure] if options.figure else PLANS:
            with plt.rc_context(STYLE):
                for path in save(draw(number, metrics, histograms), options.output, f"figure_{number}"):
                    print(f"wrote {path}")


if __name__ == "__main__":
    main()
