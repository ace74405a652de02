"""Holds each claim against the collected metrics, by the rules of experiments/verdicts/rules.yaml.

Prints a table and writes it to <output>/verdicts.md and verdicts.tex; with --readme also the summary between the
markers of a Markdown file. Verdicts on the paper's claims: reproduced, close, not reproduced, not comparable (other
data, another budget, or no runs); on claims of this project: holds, close, fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.one_line_errors import one_line_errors
from experiments.common.store import write_atomically
from experiments.verdicts.claim import Claim
from experiments.verdicts.judge import measure
from experiments.verdicts.pages import (
    MEANINGLESS,
    claims_latex,
    claims_markdown,
    is_smoke,
    replace_between_markers,
    summary,
)
from experiments.verdicts.rules import NOT_JUDGED, Measurement, judge_by_rule

WIDTH = 120  # characters, where no terminal says how many


def show(measured: Sequence[Measurement], claims: Sequence[Claim]) -> None:
    """Prints the claims in short, a line per rule."""
    short = summary(measured)
    table = Table(box=box.SIMPLE, pad_edge=False, show_lines=True)
    for column in short.header:
        table.add_column(column, overflow="fold", ratio=2 if column.startswith("claim") else 1)
    for row in short.rows:
        table.add_row(*(cell.replace("<br>", "\n").replace("**", "") for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    without = sum(one.outcome == NOT_JUDGED for one in claims)
    print(
        f"{len(claims) - without} of {len(claims)} claims are judged; the others lack runs, seeds or the paper's budget"
    )
    if is_smoke(claims):
        print(MEANINGLESS)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    parser.add_argument("--readme", type=Path, help="Markdown file whose summary is rewritten between its markers")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        measured, left_out = measure(options.metrics)
        claims = [judge_by_rule(one) for one in measured]
        options.output.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output / "verdicts.md", claims_markdown(claims, left_out))
        write_atomically(options.output / "verdicts.tex", claims_latex(claims))
        if options.readme:
            text = replace_between_markers(options.readme, summary(measured).markdown().strip())
            write_atomically(options.readme, text)
    show(measured, claims)
    for line in left_out:
        print(f"left out: {line}")
    print(f"all claims with rules and sources: {options.output / 'verdicts.md'}")


if __name__ == "__main__":
    main()
