"""Uploads the offline runs that W&B doesn't have yet by `wandb sync`, oldest first; parts of a run become one run.

Left out: runs that were uploaded before, that were started over since (force=true, say), or that still run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from experiments.settings import ExperimentError, one_line_errors, typed_path
from experiments.tracking import logged_in, require_server, runs_to_sync


def sync(results: Path, dry_run: bool = False) -> None:
    """Uploads what is waiting.

    Args:
        results: Results folder with ``wandb/``.
        dry_run: Name the runs only; needs no login.

    Raises:
        ExperimentError: there is no login or no network, or a run could not be uploaded.
    """
    waiting = runs_to_sync(results)
    print(f"{results / 'wandb'}: {len(waiting)} to sync", flush=True)
    if dry_run:
        print("\n".join(str(folder) for folder in waiting))
    if dry_run or not waiting:
        return
    os.environ.setdefault("WANDB_DIR", str(results))  # of the client's own notes
    if not logged_in():
        raise ExperimentError("W&B has no key: run `wandb login` (an account is free), then this again")
    require_server()
    _upload(waiting)
    for folder in runs_to_sync(results):  # one that W&B can't read ends its command for all others
        _upload([folder])
    if left := runs_to_sync(results):
        names = "".join(f"\n  {folder}" for folder in left)
        raise ExperimentError(
            f"{len(left)} of {len(waiting)} runs not uploaded; W&B says why above, and the same command tries again. "
            f"Of a run that was killed, the end of a part can be unreadable: move such a folder away{names}"
        )


def _upload(folders: list[Path]) -> None:
    subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, folders)], check=False)


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
