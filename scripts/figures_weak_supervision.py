"""Draws Figures 2, 11, 13 and the other figures of the weak supervision from collected metrics.

Each figure shows one profile on one data set and has the profile in its name, for example figure_2_quick.png (and the
data where they are not the profile's own: figure_2_paper_mpi3d_sim.png). Without --profile, every block is drawn.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from experiments.disentanglement.pages import figure_11
from experiments.figures import draw
from experiments.settings import one_line_errors
from experiments.weak_supervision.ablation import figure_13
from experiments.weak_supervision.blocks import read_blocks
from experiments.weak_supervision.figure_pictures import figure_reconstructions, figure_traversals
from experiments.weak_supervision.figures import figure_2, figure_profile

FIGURES = {
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
        names = [options.figure] if options.figure else list(FIGURES)
        blocks = read_blocks(options.metrics, options.profile)
        figures = {f"{name}_{block.suffix}": partial(FIGURES[name], block) for block in blocks for name in names}
        draw(figures, options.output)


if __name__ == "__main__":
    main()
