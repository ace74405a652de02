"""Holds each claim against the collected metrics, by the rules of experiments/claims/rules.yaml.

Prints a table and writes it to <output>/verdicts.md and verdicts.tex; with --claims and --readme also the summary, and
its headlines, between the markers of a Markdown file. Verdicts on the paper's claims: reproduced, close, not
reproduced, not comparable (other data, another budget, or no runs); on claims of this project: holds, close, fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.claims.rules import NOT_JUDGED, Claim
from experiments.claims.summary import MEANINGLESS, is_smoke, summary, write_claims
from experiments.settings import one_line_errors

WIDTH = 120  # characters, where no terminal says how many


def show(claims: Sequence[Claim]) -> None:
    """Prints the claims in short, a line per rule."""
    short = summary(claims)
    table = Table(box=box.SIMPLE, pad_edge=False, show_lines=True)
    for column in short.header:
        table.add_column(column, overflow="fold", ratio=2 if column.startswith("claim") else 1)
    for row in short.rows:
        table.add_row(*(cell.replace("<br>", "\n").replace("**", "") for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    judged = sum(one.outcome != NOT_JUDGED for one in claims)
    print(f"{judged} of {len(claims)} claims are judged; the others lack runs, seeds or the paper's budget")
    if is_smoke(claims):
        print(MEANINGLESS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which Markdown files show the claims."""
    parser.add_argument("--claims", type=Path, help="Markdown file whose summary is rewritten between its markers")
    parser.add_argument("--readme", type=Path, help="the same for the headlines alone")


def write(metrics: Path, output: Path, options: argparse.Namespace) -> None:
    """Writes and prints the claims."""
    claims, left_out = write_claims(metrics, output, documentation=options.claims, readme=options.readme)
    show(claims)
    for line in left_out:
        print(f"left out: {line}")
    print(f"all claims with rules and sources: {output / 'verdicts.md'}")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    add_options(parser)
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        write(options.metrics, options.output, options)


if __name__ == "__main__":
    main()
