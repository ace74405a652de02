"""Logs the tables and figures of the results folder to W&B, as one run of the group `pages`.

Offline unless told otherwise: `make wandb-sync` uploads it. The same files are the same run.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from experiments.environment import code_facts
from experiments.settings import ExperimentError, one_line_errors, typed_path
from experiments.tracking import track

FOLDERS = ("tables", "figures", "metrics")


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
    with track(
        mode=mode,
        project=project,
        row="pages",
        run_id=f"pages-{digest.hexdigest()[:12]}",
        seed=None,
        job_type="evaluate",
        tags=["pages"],
        config={"experiment_name": "pages"},
        results=results,
    ) as tracker:
        tracker.log_facts(code_facts())
        for name, paths in found.items():
            if paths:
                tracker.log_files(name, "figures" if name == "figures" else "results", paths)
        tracker.log_images({f"figures/{path.stem}": path for path in found["figures"] if path.suffix == ".png"})
    print(f"logged {len(files)} files of {source} ({mode})")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=typed_path, default="results", help="folder with the pages (%(default)s)")
    parser.add_argument("--results", type=typed_path, default="results", help="W&B writes under it (%(default)s)")
    parser.add_argument("--mode", choices=("offline", "online"), default="offline")
    parser.add_argument("--project", default="mvhg", help="(%(default)s)")
    options = parser.parse_args(arguments)
    with one_line_errors(options.results):
        publish(options.source, options.results, options.mode, options.project)


if __name__ == "__main__":
    main()
