"""Says what is installed, found and able to run here, and the command for what is missing.

Status 0 unless nothing can run. No key is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the experiments are run from the checkout

from experiments.doctor.abilities import Ability, abilities
from experiments.doctor.surroundings import Surroundings, python_is_supported, survey


def facts(found: Surroundings) -> list[tuple[str, str]]:
    """Name and value of what was found, but for the packages."""
    supported = "" if python_is_supported() else " (tested: 3.10 to 3.13)"
    lines = [
        ("Python", found.python + supported),
        ("processors", str(found.processors)),
        ("GPUs", "; ".join(found.gpus) or "none"),
        ("free disk", f"{found.free_gib:.0f} GiB"),
        ("W&B", found.wandb),
        ("git", found.git),
        ("data folder", found.data_directory),
    ]
    lines += [(f"data: {name}", place or "not there") for name, place in found.data.items()]
    lines += [(f"program: {name}", path or "not there") for name, path in found.programs.items()]
    return lines + [("R package BiasedUrn", found.biased_urn or "not there")]


def show(title: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Prints a table; without colours and frames where the output is no terminal, or rich is not installed."""
    rows = list(rows)
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            table = Table(*header, title=title, title_justify="left")
            for row in rows:
                table.add_row(*row)
            Console().print(table)
            return
    print(title)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def describe(ability: Ability) -> tuple[str, str, str]:
    """A line of the table: target, whether it can run, what is missing and what adds it."""
    missing = "; ".join(f"{need}: {remedy}" for need, remedy in ability.missing.items())
    return ability.target, ability.state, missing


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    found = survey(ROOT)
    able = abilities(found)
    if options.json:
        content = asdict(found) | {"abilities": {ability.target: ability.missing for ability in able}}
        print(json.dumps(content, indent=2))
    else:
        show("Surroundings", ("what", "found"), facts(found))
        packages = (
            (name, package.installed or "-", package.pinned or "-", package.extra, package.state)
            for name, package in found.packages.items()
        )
        show("Packages", ("package", "installed", "pinned", "extra", "state"), packages)
        show("What can run", ("target", "here", "missing: what adds it"), map(describe, able))
    if all(ability.missing for ability in able):
        sys.exit(1)


if __name__ == "__main__":
    main()
