"""Draws Figures 2, 11, 13 and the other figures of the weak supervision from collected metrics.

Each figure shows one profile on one data set and has the profile in its name, for example figure_2_quick.png (and the
data where they are not the profile's own: figure_2_paper_mpi3d_sim.png). Without --profile, every block is drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from matplotlib.figure import Figure

from experiments.common.figures import draw
from experiments.common.one_line_errors import one_line_errors
from experiments.disentanglement.pages import figure_11
from experiments.weak_supervision.ablation import figure_13
from experiments.weak_supervision.blocks import Block, read_blocks
from experiments.weak_supervision.figures import figure_2, figure_profile
from experiments.weak_supervision.pictures import figure_reconstructions, figure_traversals

FIGURES: dict[str, Callable[[Block], Figure]] = {
    "figure_2": figure_2,
    "figure_11": figure_11,
    "figure_13": figure_13,
    "weak_supervision_bounds": figure_profile,
    "weak_supervision_reconstructions": figure_reconstructions,
    "weak_supervision_traversals": figure_traversals,
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
        figures = {options.figure: FIGURES[options.figure]} if options.figure else FIGURES
        draw(figures, read_blocks(options.metrics, options.profile), options.output)


if __name__ == "__main__":
    main()
