"""Draws Figures 7 and 8 and the recovery figure of the urn experiment, and its table, from the collected metrics.

Figure 7: training and validation loss over the steps. Figure 8: estimated log weights over the steps. Both show the
paper's merged conditionals above the exact ones, with the truth at the right edge. The recovery figure shows how far
from the truth every estimator ends.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.figures import draw
from experiments.settings import one_line_errors
from experiments.tables import write
from experiments.urn.figures import figures
from experiments.urn.tables import tables


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/figures"), help="folder (%(default)s)")
    parser.add_argument("--tables", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        draw(figures(options.metrics), options.output)
        write(tables(options.metrics), options.tables)


if __name__ == "__main__":
    main()
