"""The tables of the runs that count, each line with where it comes from."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.aggregation.runs import Cell
from experiments.clustering.shown_pictures import is_shown
from experiments.common.collected import read_collected
from experiments.common.configuration import rows
from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory
from experiments.weak_supervision.kept_pictures import kept_pictures

PROVENANCE = ("commit", "dirty", "device", "seconds")
THINNED = ("traversals", "reconstructions")  # of most rows nothing is shown, and of others a part
WHOLE = ("generated", "latent")  # of some rows nothing is shown
STUDIES = ("clustering_pretraining", "clustering_recipe")  # of these only the scores are shown
PICTURES = (*WHOLE, *THINNED)  # large, and one seed is enough to look at


def collect_tables(runs: Mapping[Cell, RunDirectory]) -> dict[str, list[pd.DataFrame]]:
    """Returns the tables of some runs, by the name of their CSV file.

    Args:
        runs: The run of every cell.
    """
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    shown: set[tuple[str, ...]] = set()  # cells whose pictures are there: seeds come in ascending order
    for cell, run in sorted(runs.items()):
        for path in sorted(run.path.glob("*.csv")):
            if path.stem in PICTURES and cell[:-1] in shown:
                continue
            if cell.row.split("/")[0] in STUDIES and path.stem != "metrics":
                continue
            if path.stem in WHOLE and not is_shown(cell.row, path.stem):
                continue
            table = pd.read_csv(path)
            if path.stem in THINNED:
                table = kept_pictures(cell.row, path.stem, table)
            if len(table):
                tables[f"{cell.row.split('/')[0]}_{path.stem}.csv"].append(_with_origin(cell, run, path.stem, table))
        shown.add(cell[:-1])
    return tables


def _with_origin(cell: Cell, run: RunDirectory, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a run's table with columns that say where it comes from."""
    table, facts = table.reset_index(drop=True), run.environment()
    origin: dict[str, Any] = {"row": cell.row, "profile": cell.profile, "seed": cell.seed, "run_id": run.path.name}
    if cell.data and "data" not in table:
        origin["data"] = cell.data
    more = {fact: facts[fact] for fact in PROVENANCE} if name == "metrics" else {}
    if more:
        more |= {"seconds": math.nan if facts["resumed"] else facts["seconds"], "torch": facts["packages"]["torch"]}
    columns = pd.DataFrame([origin], index=table.index), table, pd.DataFrame([more], index=table.index)
    return pd.concat(columns, axis=1)


def outdated(folder: Path, tables: Iterable[str]) -> list[Path]:
    """Returns the tables of rooms in a folder that no run stands behind any more.

    Args:
        folder: Of CSVs, written by an earlier call.
        tables: Names of those that are written now.
    """
    rooms = {row.split("/")[0] for row in rows()}
    others = (path for path in sorted(folder.glob("*_*.csv")) if path.name not in set(tables))
    return [path for path in others if any(path.name.startswith(f"{room}_") for room in rooms)]


def keep_others(path: Path, new: str, broken: Container[str] = ()) -> str:
    """Adds to a CSV's new text the lines of the old file whose cells (row, profile, data, seed) are not in it.

    Text stays as it is, so that no number is written anew.

    Args:
        path: The old file.
        new: Text of the new one.
        broken: Ids of runs that are left out, whose lines are not kept.

    Raises:
        ExperimentError: the old file is no such table.
    """
    if not path.is_file():
        return new
    table = pd.read_csv(io.StringIO(new), dtype=str, keep_default_na=False)
    read_collected(path)  # says what is wrong with it, if anything is
    old = pd.read_csv(path, dtype=str, keep_default_na=False)
    cell = [column for column in Cell._fields if column in table]
    if not set(cell) <= set(old):
        raise ExperimentError(f"{path} has no columns {', '.join(cell)}: its lines can't be kept")
    made = set(table[cell].itertuples(index=False, name=None))
    cells = old[cell].itertuples(index=False, name=None)
    others = old[[line not in made and run not in broken for line, run in zip(cells, old["run_id"], strict=True)]]
    both = pd.concat([table, others], ignore_index=True).fillna("")
    seeds = both["seed"].astype(int)
    if path.stem.endswith(PICTURES):
        both = both[seeds == seeds.groupby([both[column] for column in cell[:-1]]).transform("min")]
    both = both.sort_values(cell, kind="stable", key=lambda part: part.astype(int) if part.name == "seed" else part)
    return both.to_csv(index=False, lineterminator="\n")
