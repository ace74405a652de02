"""Draws Figure 3 and the other figures of the clustering experiment from collected metrics.

Each figure shows one profile on one data set and has the profile in its name, for example figure_3_quick.png (and the
data where they are not the profile's own: figure_3_quick_mnist.png). Without --profile, every block is drawn.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from experiments.clustering.blocks import read_blocks
from experiments.clustering.figures import figure_3, figure_history
from experiments.clustering.pictures import figure_confusion, figure_digits, figure_latent
from experiments.figures import draw
from experiments.settings import one_line_errors

FIGURES = {
    "figure_3": figure_3,
    "clustering_confusion": figure_confusion,
    "clustering_digits": figure_digits,
    "clustering_latent": figure_latent,
    "clustering_history": figure_history,
}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/figures"), help="folder (%(default)s)")
    parser.add_argument("--profile", help="draw this profile only (default: every one)")
    parser.add_argument("--figure", choices=list(FIGURES), help="draw this figure only (default: all)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        blocks = read_blocks(options.metrics, options.profile)
        chosen = {options.figure: FIGURES[options.figure]} if options.figure else FIGURES
        draw(
            {f"{name}_{block.suffix}": partial(make, block) for block in blocks for name, make in chosen.items()},
            options.output,
        )


if __name__ == "__main__":
    main()
