"""Writes every table, figure and verdict and the report from a folder of collected metrics; names what has no runs.

Nothing is drawn again while metrics, code and the versions of the drawing packages are the same. With --readme also
the summary between the markers of a Markdown file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.errors import ExperimentError
from experiments.common.one_line_errors import one_line_errors
from experiments.pages.digest import Stamp, digest_of

PARTS = ("tables", "figures")  # folders below the output
REPORT = "report.html"


def write_all(metrics: Path, output: Path, report: bool) -> list[str]:
    """Runs every script of tables and figures, and at last that of the report.

    Returns:
        What could not be made, and why.
    """
    from scripts import (
        figures_clustering,
        figures_gradient_study,
        figures_kolmogorov_smirnov,
        figures_urn,
        figures_weak_supervision,
        tables_clustering,
        tables_weak_supervision,
    )
    from scripts import (
        report as report_page,
    )

    tables, figures = (str(output / part) for part in PARTS)
    jobs = {
        figures_kolmogorov_smirnov: ["--output", figures],
        figures_urn: ["--output", figures, "--tables", tables],
        tables_weak_supervision: ["--output", tables],
        figures_weak_supervision: ["--output", figures],
        tables_clustering: ["--output", tables],
        figures_clustering: ["--output", figures],
    }
    if (metrics / "gradient_study.csv").is_file():  # a study of its own, which no run is part of
        jobs[figures_gradient_study] = ["--output", str(output)]
    if report:
        jobs[report_page] = ["--figures", figures, "--output", str(output / REPORT)]
    left_out = []
    for script, arguments in jobs.items():
        try:
            script.main(["--metrics", str(metrics), *arguments])
        except SystemExit as stopped:
            left_out.append(f"{script.__name__.split('.')[-1]}: {str(stopped).removeprefix('error: ')}")
        except KeyError as error:
            left_out.append(f"{script.__name__.split('.')[-1]}: the metrics have no column {error}")
    return left_out


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local"), help="folder (%(default)s)")
    parser.add_argument("--no-report", action="store_true", help="leave the report page out")
    parser.add_argument("--readme", type=Path, help="Markdown file whose summary is rewritten between its markers")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        if not any(options.metrics.glob("*_metrics.csv")):
            raise ExperimentError(f"{options.metrics} holds no metrics: run the experiments and aggregate.py first")
        options.output.mkdir(parents=True, exist_ok=True)
        parts = "tables and figures" if options.no_report else "tables, figures and report"
        stamp = Stamp(options.output / ".pages.json", f"{digest_of(options.metrics)} of {parts}")
        if stamp.is_current():
            print(f"{parts} are up to date ({options.output})")
        else:
            for line in write_all(options.metrics, options.output, not options.no_report):
                print(f"not made: {line}")
            pages = [path for part in PARTS for path in sorted((options.output / part).glob("*"))]
            stamp.write([path for path in [*pages, options.output / REPORT] if path.stem != "verdicts"])
    from scripts import verdicts

    readme = ["--readme", str(options.readme)] if options.readme else []
    verdicts.main(["--metrics", str(options.metrics), "--output", str(options.output / "tables"), *readme])
    if not options.no_report and (options.output / REPORT).is_file():
        print(f"report: {options.output / REPORT}")


if __name__ == "__main__":
    main()
