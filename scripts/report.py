"""Writes one HTML page with every claim, table and figure of some results, and where each number comes from.

The page needs no network and no other file. The same results give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.report.page import render
from experiments.report.section import Inputs
from experiments.settings import one_line_errors, typed_path
from experiments.store import write_atomically


def write_report(metrics: Path, figures: Path, output: Path) -> None:
    """Writes the page of a folder of metrics and one of figures into a file."""
    page = render(Inputs(metrics, figures))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, page)
    print(f"wrote {output} ({len(page.encode()) / 1e6:.1f} MB)")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=typed_path, default="results/metrics", help="folder of CSVs (%(default)s)")
    parser.add_argument("--figures", type=typed_path, help="folder of figures (default: figures beside the metrics)")
    parser.add_argument("--output", type=typed_path, default="results/local/report.html", help="file (%(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        write_report(options.metrics, options.figures or options.metrics.parent / "figures", options.output)


if __name__ == "__main__":
    main()
