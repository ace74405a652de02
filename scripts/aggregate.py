"""Collects finished runs into one CSV per experiment and table: <output>/<room>_<table>.csv.

Only runs of a row as it is defined are taken: one with settings changed on the command line, or a second one of the
same row, profile, data and seed, is named and left out. Every line says where it comes from; the code, machine and time
of a run stand in the metrics table (no time where a run was interrupted: only its last part was measured). Of the
tables that hold pictures, the lowest seed is taken alone, and of the weak supervision's what the figures show.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory, find_finished, write_atomically
from experiments.weak_supervision.kept_pictures import kept_pictures

PROVENANCE = ("commit", "dirty", "device", "seconds")
THINNED = ("traversals", "reconstructions")  # of most rows nothing is shown
PICTURES = ("generated", "latent", *THINNED)  # large, and one seed is enough to look at


class _Key(NamedTuple):
    """What makes a run one of its kind; in the order of the CSVs."""

    row: str
    profile: str
    data: str  # empty where a row has data of its own
    seed: int


def collect(
    results: Path, profile: str | None, seeds: frozenset[int] | None = None, data: str | None = None
) -> dict[str, list[pd.DataFrame]]:
    """Returns the tables of all runs that count, by the name of their CSV file.

    Args:
        results: Results folder with ``runs/``.
        profile: Profile to take; None for every one except ``smoke``.
        seeds: Seeds to take; None for every one.
        data: Data to take, in rooms where a row can be run on more than one; None for all.
    """
    taken: dict[_Key, RunDirectory] = {}
    for row, run in sorted(find_finished(results), key=lambda pair: (pair[0], _age(pair[1]))):
        config = OmegaConf.load(run.path / "config.yaml")
        key = _Key(row, config.profile.name, OmegaConf.select(config, "experiment.data.source") or "", config.seed)
        if key.profile != profile if profile else key.profile == "smoke":
            continue
        if data and key.data not in ("", data):
            continue
        if seeds is not None and key.seed not in seeds:
            print(f"left out: {run.path} (seed {key.seed})")
            continue
        if overrides := _facts(run)["overrides"]:
            print(f"left out: {run.path} (run with {' '.join(overrides)})")
            continue
        if key in taken:
            print(f"left out: {run.path} (older than {taken[key].path})")
            continue
        taken[key] = run
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    shown: set[tuple[str, ...]] = set()  # cells whose pictures are there: seeds come in ascending order
    for key, run in sorted(taken.items()):
        for path in sorted(run.path.glob("*.csv")):
            if path.stem in PICTURES and key[:-1] in shown:
                continue
            table = pd.read_csv(path)
            if path.stem in THINNED:
                table = kept_pictures(key.row, path.stem, table)
            if len(table):
                tables[f"{key.row.split('/')[0]}_{path.stem}.csv"].append(_with_origin(key, run, path.stem, table))
        shown.add(key[:-1])
    return tables


def _with_origin(key: _Key, run: RunDirectory, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a run's table with columns that say where it comes from."""
    table, facts = table.reset_index(drop=True), _facts(run)
    origin: dict[str, Any] = {"row": key.row, "profile": key.profile, "seed": key.seed, "run_id": run.path.name}
    if key.data and "data" not in table:
        origin["data"] = key.data
    more = {fact: facts[fact] for fact in PROVENANCE} if name == "metrics" else {}
    if more:
        more |= {"seconds": math.nan if facts["resumed"] else facts["seconds"], "torch": facts["packages"]["torch"]}
    columns = pd.DataFrame([origin], index=table.index), table, pd.DataFrame([more], index=table.index)
    return pd.concat(columns, axis=1)


def keep_others(path: Path, new: str) -> str:
    """Adds to a CSV's new text the lines of the old file whose cells (row, profile, data, seed) are not in it.

    Text stays as it is, so that no number is written anew.
    """
    if not path.is_file():
        return new
    table, old = (pd.read_csv(source, dtype=str, keep_default_na=False) for source in (io.StringIO(new), path))
    cell = [column for column in _Key._fields if column in table]
    if not set(cell) <= set(old):
        raise ExperimentError(f"{path} has no columns {', '.join(cell)}: its lines can't be kept")
    made = set(table[cell].itertuples(index=False, name=None))
    others = old[[line not in made for line in old[cell].itertuples(index=False, name=None)]]
    both = pd.concat([table, others], ignore_index=True).fillna("")
    seeds = both["seed"].astype(int)
    if path.stem.endswith(PICTURES):
        both = both[seeds == seeds.groupby([both[column] for column in cell[:-1]]).transform("min")]
    both = both.sort_values(cell, kind="stable", key=lambda part: part.astype(int) if part.name == "seed" else part)
    return both.to_csv(index=False, lineterminator="\n")


def _facts(run: RunDirectory) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run.path / "environment.json").read_text())
    return facts


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
    parser.add_argument("--data", help="take this data only, such as mnist, where a row has a choice (default: all)")
    parser.add_argument("--keep", action="store_true", help="keep lines of runs that are no longer there")
    options = parser.parse_args(arguments)
    try:
        tables = collect(options.results, options.profile, options.seeds, options.data)
        if not tables:
            which = f" of profile {options.profile}" if options.profile else ""
            which += f" with the data {options.data}" if options.data else ""
            raise ExperimentError(f"no finished run{which} under {options.results / 'runs'}")
        options.output.mkdir(parents=True, exist_ok=True)
        for name, parts in sorted(tables.items()):
            table = pd.concat(parts, ignore_index=True)
            text, path = table.to_csv(index=False, lineterminator="\n"), options.output / name
            write_atomically(path, keep_others(path, text) if options.keep else text)
            print(f"wrote {path} ({len(table)} lines from {len(parts)} runs)")
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.output}: {error.strerror}")


if __name__ == "__main__":
    main()
