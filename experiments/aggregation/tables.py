"""The tables of the runs that count, each line with where it comes from."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import pandas as pd

from experiments.aggregation.runs import PROVENANCE, Origin, Selection
from experiments.configuration import experiments
from experiments.results import LEFT_OUT, kind_columns, read_collected, runs_left_out
from experiments.settings import ExperimentError, one_line
from experiments.store import CONFIG, RunDirectory, write_atomically


@dataclass
class Collected:
    """The lines of one CSV.

    Attributes:
        parts: Lines of each run.
        one_seed: Whether only the lowest seed of a kind is kept: large tables, of which one is enough to look at.
    """

    parts: list[pd.DataFrame] = field(default_factory=list)
    one_seed: bool = False


def collect_tables(selection: Selection) -> dict[str, Collected]:
    """Returns the tables of the runs that count, by the name of their CSV file: ``<experiment>_<table>.csv``.

    What an experiment says of its tables (``one_seed_tables``, ``keep_lines``) is asked of its class. A run with a
    table that can't be read goes from the runs to the problems.
    """
    tables: dict[str, Collected] = defaultdict(Collected)
    shown: set[tuple[Any, ...]] = set()  # kinds whose lowest seed is there: seeds come in ascending order
    for key in sorted(selection.runs):
        origin, run = selection.runs[key]
        parts, name = {}, CONFIG
        try:
            made = hydra.utils.get_class(origin.target)
            keep_lines = getattr(made, "keep_lines", lambda _name, _row, lines: lines)
            for name in run.tables:
                one_seed = name in getattr(made, "one_seed_tables", ())
                lines = None if one_seed and key[:-1] in shown else run.table(name)
                lines = None if lines is None else keep_lines(name, origin.row, lines)
                if lines is not None and len(lines):
                    parts[name] = one_seed, _with_origin(origin, run, name, lines)
        except Exception as error:  # a file that is not whole can break a room's own code in any way
            reason = f"{name}: {one_line(error)}"
            selection.problems.append((run.path.relative_to(run.results).as_posix(), reason))
            del selection.runs[key]
            continue
        for name, (one_seed, lines) in parts.items():
            table = tables[f"{origin.row.experiment}_{name}.csv"]
            table.one_seed = one_seed
            table.parts.append(lines)
        shown.add(key[:-1])
    return tables


def _with_origin(origin: Origin, run: RunDirectory, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a run's table with columns that say where it comes from."""
    table, facts = table.reset_index(drop=True), run.environment()
    before = {**origin.columns, "run_id": run.path.name}
    if doubled := sorted(set(before) & set(table)):
        raise ExperimentError(f"it repeats {', '.join(doubled)}, which the collected table has")
    after = {fact: facts[fact] for fact in PROVENANCE} if name == "metrics" else {}
    if after:
        after |= {"seconds": math.nan if facts["resumed"] else facts["seconds"], "torch": facts["packages"]["torch"]}
    columns = pd.DataFrame([before], index=table.index), table, pd.DataFrame([after], index=table.index)
    return pd.concat(columns, axis=1)


def write_tables(folder: Path, tables: Mapping[str, Collected], broken: Container[str], keep: bool) -> None:
    """Writes the CSVs, and says so.

    Args:
        folder: Where to.
        tables: By name.
        broken: Ids of runs that are left out, whose older lines are not kept.
        keep: Keep lines of the old files whose runs are not among the new ones; otherwise files without runs go.
    """
    for path in _outdated(folder, tables):
        try:
            header = ",".join(read_collected(path).columns)
        except ExperimentError as error:
            print(f"left alone: {error}")
            continue
        if keep:
            write_atomically(path, keep_others(path, f"{header}\n", broken))
        else:
            path.unlink()
            print(f"removed {path}: no run counts any more")
    for name, collected in sorted(tables.items()):
        table = pd.concat(collected.parts, ignore_index=True)
        # All that single precision has, in which one trains.
        digits = "%.9g" if name.endswith("_history.csv") else None
        text, path = table.to_csv(index=False, lineterminator="\n", float_format=digits), folder / name
        write_atomically(path, keep_others(path, text, broken, collected.one_seed) if keep else text)
        print(f"wrote {path} ({len(table)} lines from {len(collected.parts)} runs)")


def _outdated(folder: Path, tables: Iterable[str]) -> list[Path]:
    """Returns the tables of experiments in a folder that no run stands behind any more."""
    others = (path for path in sorted(folder.glob("*_*.csv")) if path.name not in set(tables))
    return [path for path in others if any(path.name.startswith(f"{name}_") for name in experiments())]


def keep_others(path: Path, new: str, broken: Container[str] = (), one_seed: bool = False) -> str:
    """Adds to a CSV's new text the lines of the old file whose runs are of another kind than those in it.

    Text stays as it is, so that no number is written anew.

    Args:
        path: The old file.
        new: Text of the new one.
        broken: Ids of runs that are left out, whose lines are not kept.
        one_seed: Keep the lowest seed of a kind alone.

    Raises:
        ExperimentError: the old file is no such table.
    """
    if not path.is_file():
        return new
    table = pd.read_csv(io.StringIO(new), dtype=str, keep_default_na=False)
    read_collected(path)  # says what is wrong with it, if anything is
    old = pd.read_csv(path, dtype=str, keep_default_na=False)
    kind = kind_columns(table)
    if not set(kind) <= set(old):
        raise ExperimentError(f"{path} has no columns {', '.join(kind)}: its lines can't be kept")
    made = set(table[kind].itertuples(index=False, name=None))
    kinds = old[kind].itertuples(index=False, name=None)
    others = old[[line not in made and run not in broken for line, run in zip(kinds, old["run_id"], strict=True)]]
    others = others.drop(columns=[name for name in others if name not in table and (others[name] == "").all()])
    both = pd.concat([table, others], ignore_index=True).fillna("")
    seeds = both["seed"].astype(int)
    if one_seed:
        both = both[seeds == seeds.groupby([both[column] for column in kind[:-1]]).transform("min")]
    both = both.sort_values(kind, kind="stable", key=lambda part: part.astype(int) if part.name == "seed" else part)
    return both.to_csv(index=False, lineterminator="\n")


def write_left_out(folder: Path, left_out: list[tuple[str, str]], seen: Container[str] | None = None) -> None:
    """Writes which runs the tables leave out, and why, so that no page is silent about it.

    Args:
        folder: Of the CSVs; an old file is removed where nothing is left out.
        left_out: Run and reason.
        seen: Keep what the file says of runs that are not among these; None: of none.
    """
    path = folder / LEFT_OUT
    if seen is not None:
        left_out = sorted([*left_out, *((run, reason) for run, reason in runs_left_out(folder) if run not in seen)])
    if not left_out:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, pd.DataFrame(left_out, columns=["run", "reason"]).to_csv(index=False, lineterminator="\n"))
