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

from experiments.common.errors import ExperimentError
from experiments.common.store import write_atomically
from experiments.verdicts.claim import Claim
from experiments.verdicts.judge import measure
from experiments.verdicts.pages import claims_latex, claims_markdown, replace_between_markers, summary
from experiments.verdicts.rules import NOT_COMPARABLE, judge_by_rule


def show(claims: Sequence[Claim]) -> None:
    """Prints the verdicts."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("claim", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for one in claims:
        here = f" ({one.outcome} here)" if one.verdict == NOT_COMPARABLE else ""
        table.add_row(f"{one.place}: {one.claim}", one.measured, f"{one.verdict}{here}")
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    parser.add_argument("--readme", type=Path, help="Markdown file whose summary is rewritten between its markers")
    options = parser.parse_args(arguments)
    try:
        measured, left_out = measure(options.metrics)
        claims = [judge_by_rule(one) for one in measured]
        options.output.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output / "verdicts.md", claims_markdown(claims, left_out))
        write_atomically(options.output / "verdicts.tex", claims_latex(claims))
        if options.readme:
            text = replace_between_markers(options.readme, summary(measured).markdown().strip())
            write_atomically(options.readme, text)
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.output}: {error.strerror}")
    show(claims)
    for line in left_out:
        print(f"left out: {line}")


if __name__ == "__main__":
    main()
