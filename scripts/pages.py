"""Writes every table, figure and claim and the report from a folder of collected metrics; names what has no runs.

Nothing is drawn again while metrics, code and the versions of the drawing packages are the same. With --only some of
the tables and figures, such as `--only table_1 figure_2`: those of that name, or whose name begins with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.digest import Stamp, digest_of
from experiments.settings import ExperimentError, one_line_errors

ROOMS = ("kolmogorov_smirnov", "urn", "weak_supervision", "disentanglement", "clustering", "gradient_study")
PARTS = ("tables", "figures")  # folders below the output, and functions of a room's modules of these names
REPORT = "report.html"


def write_pages(metrics: Path, output: Path, only: Sequence[str] = ()) -> list[str]:
    """Writes the tables and figures of every room.

    Args:
        metrics: Folder of the CSVs.
        output: Folder of the folders.
        only: Names, or beginnings of names; empty for all.

    Returns:
        What could not be made, and why.

    Raises:
        ExperimentError: nothing could be made, or no table or figure has one of these names.
    """
    from experiments.figures import draw
    from experiments.tables import write

    writers: Mapping[str, Callable[[Any, Path], list[Path]]] = {"tables": write, "figures": draw}
    paths, reasons = [], []
    for room in ROOMS:
        for part, write_part in writers.items():
            try:
                made = import_module(f"experiments.{room}.{part}")
                pages = getattr(made, part)(metrics) if hasattr(made, part) else {}
                chosen = {name: page for name, page in pages.items() if not only or _matches(name, only)}
                if chosen:
                    paths += write_part(chosen, output / part)
            except ExperimentError as error:
                reasons.append(f"{part} of {room}: {error}")
            except KeyError as error:
                reasons.append(f"{part} of {room}: the metrics have no column {error}")
    missing = [name for name in only if not any(_matches(path.stem, [name]) for path in paths)]
    if missing or not paths:
        what = f"no table or figure {', '.join(missing)}" if missing else "no table and no figure"
        raise ExperimentError(f"{what} could be made from {metrics}" + "".join(f"\n  {reason}" for reason in reasons))
    return reasons


def _matches(name: str, only: Sequence[str]) -> bool:
    stem = name.partition(".")[0]
    return any(stem == one or stem.startswith(f"{one}_") for one in only)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    from scripts import claims

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local"), help="folder (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="some tables and figures only, by name")
    parser.add_argument("--no-report", action="store_true", help="leave the report page out")
    claims.add_options(parser)
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        if not any(options.metrics.glob("*_metrics.csv")):
            raise ExperimentError(
                f"{options.metrics} holds no metrics: run the experiments and `python -m scripts.aggregate` first"
            )
        options.output.mkdir(parents=True, exist_ok=True)
        if options.only:
            write_pages(options.metrics, options.output, options.only)
            return
        parts = "tables and figures" if options.no_report else "tables, figures and report"
        digest = digest_of(options.metrics, options.metrics.parent / "benchmark", words=parts)
        stamp = Stamp(options.output / ".pages.json", digest)
        if stamp.is_current():
            print(f"{parts} are up to date ({options.output})")
        else:
            for line in write_pages(options.metrics, options.output):
                print(f"not made: {line}")
            if not options.no_report:
                from scripts import report

                figures = str(options.output / "figures")
                page = str(options.output / REPORT)
                report.main(["--metrics", str(options.metrics), "--figures", figures, "--output", page])
            pages = [path for part in PARTS for path in sorted((options.output / part).glob("*"))]
            stamp.write([path for path in [*pages, options.output / REPORT] if path.stem != "verdicts"])
        claims.write(options.metrics, options.output / "tables", options)
        if not options.no_report and (options.output / REPORT).is_file():
            print(f"report: {options.output / REPORT}")


if __name__ == "__main__":
    main()
