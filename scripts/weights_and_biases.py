"""What goes to Weights & Biases beside the runs themselves.

sync       uploads the offline runs that W&B doesn't have yet by `wandb sync`, oldest first; parts of a run become one
           run. Left out: runs that were uploaded before, that were started over since (force=true, say), or still run
publish    logs the tables and figures of the results folder, as one run of the group `pages`; the same files are the
           same run. Offline unless told otherwise: `make wandb-sync` uploads it
dashboard  writes the dashboards (workspaces, one per experiment, declared in experiments/report/dashboards.py) as JSON,
           without a login; --push makes them in W&B
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from experiments.environment import code_facts
from experiments.settings import ExperimentError, one_line_errors, typed_path
from experiments.store import LOCK_SECONDS, alone, write_atomically
from experiments.tracking import logged_in, require_server, runs_to_sync, track
from experiments.wandb_logs import cut_unreadable_end

FOLDERS = ("tables", "figures", "metrics")
UNREADABLE = "unreadable-run"  # how the folder of an offline run begins that has no readable record


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
        print(*waiting, sep="\n", end="\n" if waiting else "")
    if dry_run or not waiting:
        return
    os.environ.setdefault("WANDB_DIR", str(results))  # of the client's own notes
    if not logged_in():
        raise ExperimentError("W&B has no key: run `wandb login` (an account is free), then this again")
    require_server()
    with _alone(results):
        for folder in waiting:
            _mend(folder)
        _upload(runs_to_sync(results))
        for folder in runs_to_sync(results):  # one that W&B refuses ends its command for all others
            _upload([folder])
    if left := runs_to_sync(results):
        names = "".join(f"\n  {folder}" for folder in left)
        count = f"{len(left)} of {len(waiting)} runs not uploaded"
        raise ExperimentError(f"{count}; W&B says why above, and the same command tries again{names}")


def _alone(results: Path) -> AbstractContextManager[None]:
    """Keeps pages from being uploaded while they are logged: they have no run whose lock would tell."""
    return alone(results / "wandb" / ".pages.lock", "logging or uploading pages", patience=LOCK_SECONDS)


def _mend(folder: Path) -> None:
    """Takes from a run's logs the end that a kill left unreadable; a folder with nothing readable gets another name."""
    for log in folder.glob("run-*.wandb"):
        size = log.stat().st_size
        end = cut_unreadable_end(log)
        if not end:
            place = folder.rename(folder.with_name(folder.name.replace("offline-run", UNREADABLE, 1)))
            print(f"{folder}: nothing of it can be read (the run was killed), put aside as {place.name}", flush=True)
        elif end < size:
            print(f"{log}: its last {size - end} bytes can't be read (the run was killed) and are cut off", flush=True)


def _upload(folders: list[Path]) -> None:
    if folders:
        subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, folders)], check=False)


def publish(source: Path, results: Path, mode: str, project: str) -> None:
    """Logs one artifact per folder, and every PNG as a picture.

    Args:
        source: Folder with ``tables``, ``figures`` and ``metrics``.
        results: W&B writes under ``<results>/wandb``.
        mode: ``offline`` or ``online``.
        project: W&B project.

    Raises:
        ExperimentError: there is nothing to publish, or W&B does not start.
    """
    found = {name: sorted(path for path in (source / name).glob("*") if path.is_file()) for name in FOLDERS}
    files = [path for paths in found.values() for path in paths]
    if not files:
        raise ExperimentError(f"{source} holds no {', '.join(FOLDERS)}: run the experiments first")
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    (results / "wandb").mkdir(parents=True, exist_ok=True)
    with (
        _alone(results),
        track(
            results,
            mode=mode,
            project=project,
            artifacts=True,
            group="pages",
            run_id=f"pages-{digest.hexdigest()[:12]}",
            name="pages",
            job_type="evaluate",
            tags=["pages"],
            config={"experiment_name": "pages"},
        ) as tracker,
    ):
        tracker.log_facts(code_facts())
        for name, paths in found.items():
            if paths:
                tracker.log_files(name, "figures" if name == "figures" else "results", paths)
        tracker.log_images({f"figures/{path.stem}": path for path in found["figures"] if path.suffix == ".png"})
    print(f"logged {len(files)} files of {source} ({mode})")


def write_dashboards(output: Path, project: str, entity: str, push: bool) -> None:
    """Writes the dashboards, and makes them in W&B if asked to; see ``Dashboard``."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at wandb's import: no crash reports
    from experiments.report.dashboards import DASHBOARDS

    output.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        path = output / f"{dashboard.name}.json"
        write_atomically(path, dashboard.json(entity, project))
        print(f"wrote {path}")
    for dashboard in DASHBOARDS if push else ():
        print(f"made {dashboard.push(entity, project)}")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    offline, pages, boards = (commands.add_parser(name) for name in ("sync", "publish", "dashboard"))
    for command in (offline, pages):
        command.add_argument("--results", type=typed_path, default="results", help="folder with wandb/ (%(default)s)")
    for command in (pages, boards):
        command.add_argument("--project", default="mvhg", help="W&B project (%(default)s)")
    offline.add_argument("--dry-run", action="store_true", help="name the runs, upload nothing")
    pages.add_argument("--source", type=typed_path, default="results", help="folder with the pages (%(default)s)")
    pages.add_argument("--mode", choices=("offline", "online"), default="offline", help="(%(default)s)")
    boards.add_argument("--output", type=typed_path, default="results/local/dashboards", help="folder (%(default)s)")
    boards.add_argument("--entity", default=os.environ.get("WANDB_ENTITY", ""), help="user or team, for --push")
    boards.add_argument("--push", action="store_true", help="make new workspaces in W&B (needs `wandb login`)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.output if options.command == "dashboard" else options.results):
        if options.command == "sync":
            sync(options.results, options.dry_run)
        elif options.command == "publish":
            publish(options.source, options.results, options.mode, options.project)
        else:
            write_dashboards(options.output, options.project, options.entity, options.push)


if __name__ == "__main__":
    main()
