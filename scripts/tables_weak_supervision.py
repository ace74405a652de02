"""Writes the tables of the weak supervision: Table 1 (Markdown and LaTeX), the numbers of Figures 2 and 11, Table 3.

Each profile and data set is a block of its own, the largest first. Writes what there are runs for: <output>/table_1.md,
table_1.tex and figure_2.md, figure_11.md, weak_supervision_ablation.md; and table_3.md, table_3.tex from the benchmark.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.disentanglement.pages import figure_11_files
from experiments.settings import ExperimentError, one_line_errors
from experiments.tables import write
from experiments.weak_supervision.pages import ONLY, makers
from experiments.weak_supervision.runtimes import benchmark_file


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    parser.add_argument("--benchmark", type=Path, help="CSV (default: benchmark/weak_supervision.csv there)")
    parser.add_argument("--profile", help="take this profile only (default: every one)")
    parser.add_argument("--only", choices=(*ONLY, "figure_11"), help="write this only (default: what there is)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        benchmark = options.benchmark or benchmark_file(options.metrics)
        make = makers(options.metrics, benchmark, options.profile)
        make["figure_11"] = lambda: figure_11_files(options.metrics, options.profile)
        files, reasons = dict[str, str](), list[str]()
        for name in [options.only] if options.only else make:
            try:
                files |= make[name]()
            except ExperimentError as error:
                reasons.append(f"{name}: {error}")
        if not files:
            raise ExperimentError(f"nothing to write: {'; '.join(reasons)}")
        write(files, options.output)
        for reason in reasons:
            print(f"not written: {reason}")


if __name__ == "__main__":
    main()
