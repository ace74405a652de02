"""Uploads the offline runs that W&B doesn't have yet by `wandb sync`, oldest first.

Left out: runs that were uploaded before, that were started over since (force=true, say), or that still run. Parts of an
interrupted run share its id and become one run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from experiments.offline_runs import cut_unreadable_ends, find_offline_runs
from experiments.settings import ExperimentError, one_line_errors, typed_path
from experiments.tracking import logged_in, require_server


def sync(results: Path, dry_run: bool = False) -> None:
    """Uploads what is waiting.

    Args:
        results: Results folder with ``wandb/``.
        dry_run: Name the runs only; needs no login.

    Raises:
        ExperimentError: there is no login or no network, or a run could not be uploaded.
    """
    runs = find_offline_runs(results)
    print(
        f"{results / 'wandb'}: {len(runs.waiting)} to sync, {len(runs.synced)} synced before, "
        f"{len(runs.superseded)} started over since, {len(runs.running)} still running"
    )
    if dry_run:
        print("\n".join(str(folder) for folder in runs.waiting))
    if dry_run or not runs.waiting:
        return
    os.environ.setdefault("WANDB_DIR", str(results))  # of the client's own notes
    if not logged_in():
        raise ExperimentError("W&B has no key: run `wandb login` (an account is free), then this again")
    require_server()
    for line in cut_unreadable_ends(runs.waiting):
        print(line, flush=True)
    waiting = find_offline_runs(results).waiting
    if waiting:
        subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, waiting)], check=False)
    if left := find_offline_runs(results).waiting:
        raise ExperimentError(f"{len(left)} of {len(waiting)} runs not uploaded; the same command tries again")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=typed_path, default="results", help="folder with wandb/ (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="name the runs, upload nothing")
    options = parser.parse_args(arguments)
    with one_line_errors(options.results):
        sync(options.results, options.dry_run)


if __name__ == "__main__":
    main()
