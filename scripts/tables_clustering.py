"""Writes Table 2 (Markdown and LaTeX) and the table of the learned weights of the clustering experiment.

Each profile and data set is a block of its own, the largest first. Writes <output>/table_2.md, table_2.tex,
clustering_weights.md and, where the studies were run, clustering_recipe.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.clustering.tables import contents
from experiments.settings import one_line_errors
from experiments.tables import write


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    parser.add_argument("--profile", help="take this profile only (default: every one)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        write(contents(options.metrics, options.profile), options.output)


if __name__ == "__main__":
    main()
