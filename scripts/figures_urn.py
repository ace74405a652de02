"""Draws Figures 7 and 8 and the recovery figure of the urn experiment, and its table, from committed metrics.

Figure 7: training and validation loss over the steps. Figure 8: estimated log weights over the steps. Both show the
paper's merged conditionals above the exact ones, with the truth at the right edge. The recovery figure shows how far
from the truth every estimator ends.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import matplotlib.pyplot as plt

from experiments.common.figures import STYLE, read_table, save
from experiments.common.one_line_errors import one_line_errors
from experiments.common.store import write_atomically
from experiments.urn.figures import figure_7, figure_8, figure_recovery
from experiments.urn.tables import recovery_markdown


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/figures"), help="folder (%(default)s)")
    parser.add_argument("--tables", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        metrics = read_table(options.metrics, "urn_metrics", every_seed=True)
        weights = read_table(options.metrics, "urn_weights", every_seed=True)
        history = read_table(options.metrics, "urn_history")
        first_metrics, first_weights = (table[table["seed"] == history["seed"].min()] for table in (metrics, weights))
        with plt.rc_context(STYLE):
            figures = {
                "figure_7": figure_7(history, first_metrics),
                "figure_8": figure_8(history, first_weights),
                "urn_recovery": figure_recovery(metrics, weights),
            }
            for name, figure in figures.items():
                for path in save(figure, options.output, name):
                    print(f"wrote {path}")
        options.tables.mkdir(parents=True, exist_ok=True)
        write_atomically(options.tables / "urn_recovery.md", recovery_markdown(metrics))
        print(f"wrote {options.tables / 'urn_recovery.md'}")


if __name__ == "__main__":
    main()
