"""Writes every table, figure and claim and the report from a folder of collected metrics; names what has no runs.

Nothing is drawn again while metrics, code and the versions of the drawing packages are the same. With --only some of
the tables and figures, such as `--only table_1 figure_2`: those of that name, or whose name begins with it. Claims are
judged by experiments/claims/rules.yaml. Verdicts on the paper's claims: reproduced, close, not reproduced, not
comparable (other data, another budget, or no runs); on claims of this project: holds, close, fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.environment import digest_of
from experiments.settings import ExperimentError, named_problems, one_line_errors, typed_path
from experiments.store import write_atomically

ROOMS = ("kolmogorov_smirnov", "urn", "weak_supervision", "disentanglement", "clustering", "gradient_study")
PARTS = ("tables", "figures")  # folders below the output, and functions of a room's modules of these names
WIDTH = 120  # characters, where no terminal says how many


def write_pages(metrics: Path, output: Path, only: Sequence[str] = ()) -> list[str]:
    """Writes the tables and figures of every room, or those whose names, or beginnings of them, are given.

    Returns:
        What could not be made, and why.

    Raises:
        ExperimentError: nothing could be made, or no table or figure has one of these names.
    """
    from experiments.figures import draw
    from experiments.tables import write

    writers: Mapping[str, Callable[[Any, Path], list[Path]]] = {"tables": write, "figures": draw}
    paths: list[Path] = []
    reasons: list[str] = []
    for room in ROOMS:
        for part, write_part in writers.items():
            with named_problems(f"{part} of {room}", reasons):
                made = import_module(f"experiments.{room}.{part}")
                pages = getattr(made, part)(metrics) if hasattr(made, part) else {}
                chosen = {name: page for name, page in pages.items() if not only or _matches(name, only)}
                if chosen:
                    paths += write_part(chosen, output / part)
    missing = [name for name in only if not any(_matches(path.stem, [name]) for path in paths)]
    if missing or not paths:
        what = f"no table or figure {', '.join(missing)}" if missing else "no table and no figure"
        raise ExperimentError(f"{what} could be made from {metrics}" + "".join(f"\n  {reason}" for reason in reasons))
    return reasons


def _matches(name: str, only: Sequence[str]) -> bool:
    stem = name.partition(".")[0]
    return any(stem == one or stem.startswith(f"{one}_") for one in only)


def write_report(metrics: Path, figures: Path, output: Path) -> None:
    """Writes the page of a folder of metrics and one of figures; it needs no network and no other file."""
    from experiments.report.page import render

    page = render(metrics, figures)
    write_atomically(output, page)
    print(f"wrote {output} ({len(page.encode()) / 1e6:.1f} MB)")


def show_claims(metrics: Path, output: Path, documentation: Path | None, readme: Path | None) -> None:
    """Writes the claims, and prints them in short, a line per rule."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from experiments.claims.rules import NOT_JUDGED
    from experiments.claims.summary import MEANINGLESS, is_smoke, summary, write_claims

    claims, left_out = write_claims(metrics, output, documentation=documentation, readme=readme)
    short = summary(claims)
    table = Table(box=box.SIMPLE, pad_edge=False, show_lines=True)
    for column in short.header:
        table.add_column(column, overflow="fold", ratio=2 if column.startswith("claim") else 1)
    for row in short.rows:
        table.add_row(*(cell.replace("<br>", "\n").replace("**", "") for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    judged = sum(one.outcome != NOT_JUDGED for one in claims)
    print(f"{judged} of {len(claims)} claims are judged; the others lack runs, seeds or the paper's budget")
    for line in [*([MEANINGLESS] if is_smoke(claims) else []), *(f"left out: {line}" for line in left_out)]:
        print(line)
    print(f"all claims with rules and sources: {output / 'verdicts.md'}")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=typed_path, default="results/metrics", help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=typed_path, default="results/local", help="folder (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="some tables and figures only, by name")
    parser.add_argument("--no-report", action="store_true", help="leave the report page out")
    parser.add_argument("--report", type=typed_path, help="write the report page alone, of figures beside the metrics")
    parser.add_argument(
        "--claims", type=typed_path, help="Markdown file whose summary is rewritten between its markers"
    )
    parser.add_argument("--readme", type=typed_path, help="the same for the headlines alone")
    options = parser.parse_args(arguments)
    alone = next((name for name in ("report", "only") if getattr(options, name)), "")
    for other in ("only", "claims", "readme", *(["no_report"] if alone == "report" else [])):
        if alone not in ("", other) and getattr(options, other):
            parser.error(f"--{alone} makes that alone: leave --{other.replace('_', '-')} out")
    metrics, output, report = options.metrics, options.output, options.output / "report.html"
    with one_line_errors(output):
        if not options.only and not any(metrics.glob("*_metrics.csv")):  # some pages are of other files
            raise ExperimentError(
                f"{metrics} holds no metrics: run the experiments and `python -m scripts.aggregate` first"
            )
        if options.report:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            write_report(metrics, metrics.parent / "figures", options.report)
            return
        output.mkdir(parents=True, exist_ok=True)
        if options.only:
            write_pages(metrics, output, options.only)
            return
        what, stamp = "tables and figures" if options.no_report else "tables, figures and report", output / ".pages"

        def state() -> str:
            """Of everything that is read and written but the verdicts, which are written every time."""
            pages = [path for part in PARTS for path in sorted((output / part).glob("*")) if path.stem != "verdicts"]
            return digest_of([metrics, metrics.parent / "benchmark", *pages, report], what)

        if stamp.is_file() and stamp.read_text() == state():
            print(f"{what} are up to date ({output})")
        else:
            for line in write_pages(metrics, output):
                print(f"not made: {line}")
            if not options.no_report:
                write_report(metrics, output / "figures", report)
            write_atomically(stamp, state())
        show_claims(metrics, output / "tables", options.claims, options.readme)
        if not options.no_report:
            print(f"report: {report}")


if __name__ == "__main__":
    main()
