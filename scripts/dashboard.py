"""Writes the W&B dashboards as JSON, without a login; --push makes them in W&B.

Dashboards are workspaces, one per experiment, declared in experiments/dashboards.py.
"""

from __future__ import annotations

import argparse
import os

from experiments.dashboards import DASHBOARDS
from experiments.settings import one_line_errors, typed_path
from experiments.store import write_atomically


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=typed_path, default="results/local/dashboards", help="folder (%(default)s)")
    parser.add_argument("--project", default="mvhg", help="W&B project (%(default)s)")
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY", ""), help="user or team, for --push")
    parser.add_argument("--push", action="store_true", help="make new workspaces in W&B (needs `wandb login`)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at wandb's import: no crash reports
    with one_line_errors(options.output):
        options.output.mkdir(parents=True, exist_ok=True)
        for dashboard in DASHBOARDS:
            path = options.output / f"{dashboard.name}.json"
            write_atomically(path, dashboard.json(options.entity, options.project))
            print(f"wrote {path}")
        if options.push:
            for dashboard in DASHBOARDS:
                print(f"made {dashboard.push(options.entity, options.project)}")


if __name__ == "__main__":
    main()
