"""The load test: many cells at once, processes killed and checkpoints cut at random, one command until all is done.

    nice -n 19 python -m tests.load --cells 200 --processes 8 --results /tmp/load --cut-every 10

Prints a line per command and at the end the counts: cells, commands, kills, cut checkpoints, how many of those a run
set aside, and three that must be 0: files that do not agree with their markers, finished cells that were lost or
changed, and cells that were run again after they had finished. The same call goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from experiments.settings import ExperimentError
from experiments.store import file_digest, find_runs, write_atomically
from tests.experiments.helpers import CHECKOUT, KS, arguments_of, command, environment

# Some checkpoints a cell and little work: most of a cell's time on a busy machine is the start of its process.
CELL = (*arguments_of(KS), "profile=smoke", "logger=disabled", "experiment.batch_size=500")


def children(parent: int) -> Iterator[tuple[int, str]]:
    """Id and command line of the processes directly below one, by /proc (Linux)."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(entry.name), (entry / "cmdline").read_text()


def descendants(parent: int) -> list[tuple[int, str]]:
    """The same of all processes below one."""
    return [one for child in children(parent) for one in (child, *descendants(child[0]))]


def reports(results: Path) -> list[Path]:
    """Of the workers of all multiruns whose folders are still there."""
    return list(results.glob("runs/.multirun/*/*.json"))


def finished(results: Path) -> tuple[dict[str, str], int]:
    """Hash of the marker of every finished run, and how many do not agree with their markers."""
    hashes, corrupt = {}, 0
    for _, run in find_runs(results):
        try:
            if run.finished() is not None:
                hashes[run.path.name] = file_digest(run.path / "finished.json")
        except ExperimentError:
            corrupt += 1
    return hashes, corrupt


def kill_one(first: int, generator: random.Random) -> int:
    """Kills a cell's process in 19 of 20 cases; else the first, or a worker, which ends the command, too.

    Returns:
        1, or 0 if it had ended before.
    """
    below = descendants(first)
    of_cells = [pid for pid, line in below if "experiments.cell_process" in line]
    others = [first, *(pid for pid, line in below if "LokyProcess" in line)]
    victim = generator.choice(of_cells if of_cells and generator.random() < 0.95 else others)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        return 1
    return 0


def cut_one(results: Path, generator: random.Random) -> int:
    """Cuts the checkpoint of an unfinished run at a random byte; 0 where there is none."""
    checkpoints = sorted(results.glob("runs/*/*/*/checkpoints/last.ckpt"))
    with suppress(OSError, IndexError):
        chosen = generator.choice(checkpoints)
        os.truncate(chosen, generator.randrange(max(1, chosen.stat().st_size)))
        return 1
    return 0


def load(
    results: Path, cells: int, processes: int, seed: int, *, pause: float = 4.0, cut_every: int = 0, kills: int = 1000
) -> dict[str, int]:
    """Repeats the command until it ends with 0, or 100 times, and returns the counts.

    Args:
        results: Results folder.
        cells: How many.
        processes: At once.
        seed: Of who is killed when.
        pause: Mean seconds between two kills.
        cut_every: After so many kills a checkpoint is cut; 0: none is.
        kills: At most.
    """
    results.mkdir(parents=True, exist_ok=True)
    log, state = results / "load.log", results / "load.json"
    names = ("commands", "kills", "cut", "corrupt", "lost", "repeated")
    counts = Counter(json.loads(state.read_text())) if state.exists() else Counter(dict.fromkeys(names, 0))
    arguments = ("-m", *CELL, f"seed=range({cells})", "launcher=local", f"hydra.launcher.n_jobs={processes}")
    kept, status = finished(results)[0], 1
    while status and counts["commands"] < 100:
        counts["commands"] += 1
        generator, known = random.Random(f"{seed} {counts['commands']}"), set(reports(results))
        with log.open("a") as stream:
            process = subprocess.Popen(
                command(*arguments, f"results={results}"), cwd=CHECKOUT, env=environment(), stdout=stream,
                stderr=stream, start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None and set(reports(results)) == known:
                    time.sleep(0.2)  # as long as no cell has begun, a kill would be of nothing
                while process.poll() is None:
                    end = time.monotonic() + generator.uniform(0.5, 1.5) * pause
                    while process.poll() is None and time.monotonic() < end:
                        time.sleep(0.1)
                    if process.poll() is None and counts["kills"] < kills:
                        counts["kills"] += kill_one(process.pid, generator)
                    if cut_every and counts["kills"] // cut_every > counts["cut"]:
                        counts["cut"] += cut_one(results, generator)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what a killed first one has left
        status = process.wait()
        now, corrupt = finished(results)
        counts["corrupt"] += corrupt
        counts["lost"] += sum(now.get(run) != digest for run, digest in kept.items())
        kept = now
        write_atomically(state, json.dumps(counts))
        so_far = f"{counts['kills']} kills, {counts['cut']} cut, {counts['corrupt']} corrupt, {counts['lost']} lost"
        print(f"command {counts['commands']}: {len(now)} of {cells} finished, {so_far}, status {status}", flush=True)
    lines = log.read_text().splitlines()
    ends = [line.split(" finished in ")[0] for line in lines if " finished in " in line]
    counts["repeated"] = len(ends) - len(set(ends))
    aside = sum("set aside as unreadable.ckpt" in line for line in lines)
    return dict(counts) | {"set_aside": aside, "cells": cells, "finished": len(kept), "status": status}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=4.0, help="mean seconds between two kills (%(default)s)")
    parser.add_argument("--cut-every", type=int, default=0, help="kills between two cut checkpoints (default: none)")
    options = parser.parse_args()
    counts = load(
        options.results, options.cells, options.processes, options.seed, pause=options.pause,
        cut_every=options.cut_every,
    )  # fmt: skip
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
