"""Collects finished runs into one CSV per experiment and table: <output>/<room>_<table>.csv.

Only runs of a row as it is defined are taken: one with settings changed on the command line, or a second one of the
same row, profile, data and seed, is named and left out. So is one that is broken, unfinished or of another version:
these also stand in <output>/left_out.csv, which the tables show. Every line says where it comes from; the code, machine
and time of a run stand in the metrics table (no time where a run was interrupted: only its last part was measured). Of
the tables that hold pictures, the lowest seed is taken alone, and of the weak supervision's what the figures show.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import pandas as pd

from experiments.aggregation.runs import select_runs
from experiments.aggregation.tables import collect_tables, keep_others, outdated
from experiments.common.errors import ExperimentError
from experiments.common.left_out import write_left_out
from experiments.common.one_line_errors import one_line_errors
from experiments.common.store import write_atomically


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
    with one_line_errors(options.output):
        selection = select_runs(options.results, options.profile, options.seeds, options.data)
        for run, reason in [*selection.unwanted, *selection.problems]:
            print(f"left out: {run} ({reason})")
        for run in selection.dirty:
            print(f"warning: {run} was made with changes that are in no commit")
        if not selection.runs:
            which = f" of profile {options.profile}" if options.profile else ""
            which += f" with the data {options.data}" if options.data else ""
            raise ExperimentError(f"no finished run{which} under {options.results / 'runs'}")
        options.output.mkdir(parents=True, exist_ok=True)
        broken = {Path(run).name for run, _ in selection.problems}
        tables = collect_tables(selection.runs)
        for path in outdated(options.output, tables):
            if options.keep:
                write_atomically(path, keep_others(path, path.read_text().splitlines()[0] + "\n", broken))
            else:
                path.unlink()
                print(f"removed {path}: no run counts any more")
        for name, parts in sorted(tables.items()):
            table = pd.concat(parts, ignore_index=True)
            text, path = table.to_csv(index=False, lineterminator="\n"), options.output / name
            write_atomically(path, keep_others(path, text, broken) if options.keep else text)
            print(f"wrote {path} ({len(table)} lines from {len(parts)} runs)")
        write_left_out(options.output, selection.problems, selection.names if options.keep else None)
    if selection.problems:
        print(f"warning: {len(selection.problems)} runs are left out, see {options.output / 'left_out.csv'}")


if __name__ == "__main__":
    main()
