"""Writes the tables of the weak supervision: Table 1 (Markdown and LaTeX), the numbers of Figures 2 and 11, Table 3.

Each profile and data set is a block of its own, the largest first. Writes what there are runs for: <output>/table_1.md,
table_1.tex and figure_2.md, figure_11.md, weak_supervision_ablation.md; and table_3.md, table_3.tex from the benchmark.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.one_line_errors import one_line_errors
from experiments.common.store import write_atomically
from experiments.weak_supervision.pages import ONLY, contents
from experiments.weak_supervision.runtimes import benchmark_file


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    parser.add_argument("--benchmark", type=Path, help="CSV (default: benchmark/weak_supervision.csv there)")
    parser.add_argument("--profile", help="take this profile only (default: every one)")
    parser.add_argument("--only", choices=ONLY, help="write this only (default: what there is)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        benchmark = options.benchmark or benchmark_file(options.metrics)
        files = contents(options.metrics, benchmark, options.profile, options.only)
        options.output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(options.output / name, content)
            print(f"wrote {options.output / name}")


if __name__ == "__main__":
    main()
