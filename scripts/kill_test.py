"""Kills a multirun's processes at random moments: no finished run is lost, and the last start finishes all cells."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.launching.kill_test import kill_test

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments and the processes")
    parser.add_argument("--launcher", choices=("local", "serial"), default="local")
    parser.add_argument("--results", type=Path, help="results folder; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = arguments.results or Path(temporary)
        kill_test(results, arguments.launcher, arguments.times, arguments.seed, lambda line: print(line, flush=True))
