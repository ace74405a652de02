"""The load test: many cells at once, processes killed and checkpoints cut at random, one command until all is done.

    nice -n 19 python -m tests.load --cells 200 --processes 8 --results /tmp/load

Prints cells, commands, kills, cut checkpoints, files that do not agree with their markers, finished cells that were
changed, and cells that were started again after they had finished; the last three must be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from experiments.settings import ExperimentError
from experiments.store import file_digest, find_runs
from tests.experiments.helpers import CHECKOUT, KS, arguments_of, command, environment

Counts = dict[str, int]
CUT_EVERY = 10  # kills


def descendants(parent: int) -> list[int]:
    """Processes below one, by /proc (Linux)."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                below.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                    int(entry.name)
                )
    found = list(below.get(parent, []))
    for child in found:
        found += below.get(child, [])
    return found


def reports(results: Path) -> list[Path]:
    """Of the workers that have begun a cell."""
    return list(results.glob("runs/.multirun/*/*.json"))


def is_of_a_cell(pid: int) -> bool:
    """Whether a process serves a worker by running its cells."""
    try:
        return "experiments.cell_process" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def finished(results: Path) -> tuple[dict[str, str], int]:
    """Marker's hash of every finished run, and how many do not agree with their markers."""
    hashes, corrupt = {}, 0
    for _, run in find_runs(results):
        try:
            if run.finished() is not None:
                hashes[str(run.path)] = file_digest(run.path / "finished.json")
        except ExperimentError:
            corrupt += 1
    return hashes, corrupt


def load(results: Path, cells: int, processes: int, seed: int, pause: float = 4.0, limit: int = 60) -> Counts:
    """Repeats the command until it ends with 0 and returns the counts.

    Args:
        results: Results folder.
        cells: How many.
        processes: At once.
        seed: Of who is killed when.
        pause: Mean seconds between two kills.
        limit: Commands at most.
    """
    generator, counts, kept = random.Random(seed), dict[str, int](), dict[str, str]()
    counts |= dict.fromkeys(("commands", "kills", "cut", "corrupt", "changed", "repeated"), 0)
    arguments = ("-m", *arguments_of(KS), "profile=smoke", "logger=disabled", "experiment.batch_size=500")
    arguments += (f"seed=range({cells})", "launcher=local", f"hydra.launcher.n_jobs={processes}", f"results={results}")
    log, status = results / "load.log", 1
    results.mkdir(parents=True, exist_ok=True)
    while status and counts["commands"] < limit:
        counts["commands"] += 1
        with log.open("a") as stream:
            process = subprocess.Popen(
                command(*arguments), cwd=CHECKOUT, env=environment(), stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
            known = set(reports(results))
            while process.poll() is None and set(reports(results)) == known:
                time.sleep(0.2)  # as long as no cell has begun, a kill would be of nothing
            while process.poll() is None:
                time.sleep(generator.uniform(0.5, 1.5) * pause)
                # In eight of ten kills a cell's process, in one a worker, which ends the command, in one the first.
                below = descendants(process.pid)
                of_cells, chance = [pid for pid in below if is_of_a_cell(pid)], generator.random()
                victim = generator.choice(of_cells or [process.pid])
                if chance > 0.8 or not of_cells:
                    victim = process.pid if chance > 0.9 or not below else generator.choice(below)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    counts["kills"] += 1
                checkpoints = sorted(results.glob("runs/*/*/*/checkpoints/last.ckpt"))
                if counts["kills"] % CUT_EVERY == 0 and checkpoints:
                    with suppress(OSError):
                        chosen = generator.choice(checkpoints)
                        os.truncate(chosen, generator.randrange(max(1, chosen.stat().st_size)))
                        counts["cut"] += 1
            status = process.returncode
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        now, corrupt = finished(results)
        counts["corrupt"] += corrupt
        counts["changed"] += sum(now.get(path) != digest for path, digest in kept.items())
        kept = now
        print(f"command {counts['commands']}: {len(now)} of {cells} finished, status {status}", flush=True)
    ends = [line.split(" finished in ")[0] for line in log.read_text().splitlines() if " finished in " in line]
    counts["repeated"] = len(ends) - len(set(ends))
    return counts | {"cells": cells, "finished": len(kept), "status": status}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=4.0, help="mean seconds between two kills (%(default)s)")
    options = parser.parse_args()
    print(json.dumps(load(options.results, options.cells, options.processes, options.seed, options.pause)))


if __name__ == "__main__":
    main()
