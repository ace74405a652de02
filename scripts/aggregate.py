"""Collects finished runs into one CSV per experiment and table: <output>/<experiment>_<table>.csv.

A line begins with the axes of its run, the settings changed on the command line, profile, data and seed. Of several
runs of the same kind the newest is taken. One that is broken, unfinished or of another version is left out: these also
stand in <output>/left_out.csv, which the tables show. Code, machine and time of a run stand in the metrics table (no
time where a run was interrupted: only its last part was measured). Of large tables the lowest seed is taken alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.aggregation.runs import select_runs
from experiments.aggregation.tables import collect_tables, write_left_out, write_tables
from experiments.environment import digest_of
from experiments.settings import ExperimentError, one_line_errors, typed_path, typed_seed
from experiments.store import FINISHED, write_atomically


def _seeds(text: str) -> frozenset[int]:
    return frozenset(map(typed_seed, text.split(",")))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=typed_path, default="results", help="folder with runs/ (%(default)s)")
    parser.add_argument("--output", type=typed_path, default="results/local/metrics", help="folder (%(default)s)")
    parser.add_argument("--profile", help="take this profile only (default: every one except smoke)")
    parser.add_argument("--seeds", type=_seeds, help="take these seeds only, such as 0,1,2 (default: every one)")
    parser.add_argument("--keep", action="store_true", help="keep lines of runs that are no longer there")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output):
        selection = select_runs(options.results, options.profile, options.seeds)
        for run, reason in [*selection.unwanted, *selection.problems]:
            print(f"left out: {run} ({reason})")
        for run in selection.dirty:
            print(f"warning: {run} was made with changes that are in no commit")
        if not selection.runs:
            which = f" of profile {options.profile}" if options.profile else ""
            which += f" with seed {' or '.join(map(str, sorted(options.seeds)))}" if options.seeds else ""
            raise ExperimentError(f"no finished run{which} under {options.results / 'runs'}")
        options.output.mkdir(parents=True, exist_ok=True)
        markers = [run.path / FINISHED for _, run in selection.runs.values()]
        stamp = options.output / ".aggregate"

        def state() -> str:
            return digest_of([*markers, *sorted(options.output.glob("*.csv"))], f"{selection.problems} {options}")

        if not options.keep and stamp.is_file() and stamp.read_text() == state():
            print(f"the metrics of {len(selection.runs)} runs are up to date ({options.output})")
            return
        tables = collect_tables(selection)
        broken = {Path(run).name for run, _ in selection.problems}
        write_tables(options.output, tables, broken, options.keep)
        write_left_out(options.output, selection.problems, selection.names if options.keep else None)
        if not options.keep:
            write_atomically(stamp, state())
    if selection.problems:
        print(f"warning: {len(selection.problems)} runs are left out, see {options.output / 'left_out.csv'}")


if __name__ == "__main__":
    main()
