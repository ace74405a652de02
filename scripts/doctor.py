"""Says what is installed and found here, and what is missing, with the command that adds it.

Status 0 unless no experiment can run. No key is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.doctor import Surroundings, missing, survey

ROOT = Path(__file__).resolve().parents[1]


def tables(found: Surroundings) -> dict[str, list[Sequence[str]]]:
    """Title -> lines, the first of them the header."""
    packages = [
        (name, package.installed or "missing", package.pinned or "-", package.extra)
        for name, package in found.packages.items()
    ]
    facts = found.others | {"GPUs": "; ".join(found.gpus) or "none", "free disk": f"{found.free_gib:.0f} GiB"}
    facts |= {"W&B key": "a key is there" if found.logged_in else "none (needed for upload only)"}
    facts |= {f"data {name}": place or "not there" for name, place in found.data.items()}
    return {
        "Installed": [("package", "version", "pinned", "asked for by"), *packages],
        "Found": [("what", "here"), *facts.items()],
        "Missing": [("what", "needed for", "what adds it"), *missing(found)],
    }


def show(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Prints a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(title)
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    found = survey(ROOT)
    if options.json:
        print(
            json.dumps({title: [dict(zip(rows[0], row)) for row in rows[1:]] for title, rows in tables(found).items()})
        )
    else:
        for title, rows in tables(found).items():
            show(title, rows)
    if not (found.has("library") and found.has("experiments")):
        sys.exit(1)


if __name__ == "__main__":
    main()
