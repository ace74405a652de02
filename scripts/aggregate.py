"""Collects finished runs into one CSV per experiment and table: <output>/<room>_<table>.csv.

Only runs of a row as it is defined are taken: one with settings changed on the command line, or a second one of the
same row, profile and seed, is named and left out. Every line says where it comes from; the code, machine and time of a
run stand in the metrics table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory, find_finished, write_atomically

PROVENANCE = ("commit", "dirty", "device", "seconds")


def collect(results: Path, profile: str | None, seeds: frozenset[int] | None = None) -> dict[str, list[pd.DataFrame]]:
    """Returns the tables of all runs that count, by the name of their CSV file.

    Args:
        results: Results folder with ``runs/``.
        profile: Profile to take; None for every one except ``smoke``.
        seeds: Seeds to take; None for every one.
    """
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    taken: dict[tuple[Any, ...], RunDirectory] = {}
    for row, run in sorted(find_finished(results), key=lambda pair: (pair[0], _age(pair[1]))):
        config = OmegaConf.load(run.path / "config.yaml")
        facts = json.loads((run.path / "environment.json").read_text())
        name, seed = config.profile.name, config.seed
        if name != profile if profile else name == "smoke":
            continue
        if seeds is not None and seed not in seeds:
            print(f"left out: {run.path} (seed {seed})")
            continue
        if facts["overrides"]:
            print(f"left out: {run.path} (run with {' '.join(facts['overrides'])})")
            continue
        if (row, name, seed) in taken:
            print(f"left out: {run.path} (older than {taken[row, name, seed].path})")
            continue
        taken[row, name, seed] = run
        origin = {"row": row, "profile": name, "seed": seed, "run_id": run.path.name}
        for path in sorted(run.path.glob("*.csv")):
            table = pd.read_csv(path)
            more = {key: facts[key] for key in PROVENANCE} if path.stem == "metrics" else {}
            more |= {"torch": facts["packages"]["torch"]} if more else {}
            columns = pd.DataFrame([origin], index=table.index), table, pd.DataFrame([more], index=table.index)
            tables[f"{row.split('/')[0]}_{path.stem}.csv"].append(pd.concat(columns, axis=1))
    return tables


def _age(run: RunDirectory) -> float:
    """Sorts the newest run first."""
    return -(run.path / "finished.json").stat().st_mtime


def _seeds(text: str) -> frozenset[int]:
    return frozenset(int(seed) for seed in text.split(","))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with runs/ (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/metrics"), help="folder (%(default)s)")
    parser.add_argument("--profile", help="take this profile only (default: every one except smoke)")
    parser.add_argument("--seeds", type=_seeds, help="take these seeds only, such as 0,1,2 (default: every one)")
    options = parser.parse_args(arguments)
    try:
        tables = collect(options.results, options.profile, options.seeds)
        if not tables:
            which = f" of profile {options.profile}" if options.profile else ""
            raise ExperimentError(f"no finished run{which} under {options.results / 'runs'}")
        options.output.mkdir(parents=True, exist_ok=True)
        for name, parts in sorted(tables.items()):
            table = pd.concat(parts, ignore_index=True)
            write_atomically(options.output / name, table.to_csv(index=False, lineterminator="\n"))
            print(f"wrote {options.output / name} ({len(table)} lines from {len(parts)} runs)")
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.output}: {error.strerror}")


if __name__ == "__main__":
    main()
