"""Kills a process of a multirun at random moments and checks that the results store loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from experiments.common.store import STAGED, file_digest, find_finished

CHECKOUT = Path(__file__).resolve().parents[2]
ROW = "kolmogorov_smirnov/weights_exact_straight_through"
CELLS_PER_KILL = 5
# Long enough a cell to be hit, and with checkpoints.
SETTINGS = ("experiment.draws=50000", "experiment.batch_size=1000", "experiment.max_settings=3")
LOG = "multiruns.log"  # what they print
MOMENTS = (3.0, 20.0)  # seconds from one kill to the next


def multirun(results: Path, launcher: str, cells: int) -> list[str]:
    """Returns the command of a multirun whose cells take seconds."""
    row = f"experiment={ROW}", f"seed={','.join(map(str, range(cells)))}"
    settings = "profile=smoke", "logger=disabled", *SETTINGS, f"results={results}", f"launcher={launcher}"
    return [sys.executable, "-m", "experiments.run", "-m", *row, *settings]


def process_tree(root: int) -> list[int]:
    """Returns the ids of a process and of all below it, by /proc (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for process in tree:
        tree += sorted(children.get(process, []))
    return tree


def finished_hashes(results: Path) -> dict[str, str]:
    """Returns the hash of every file of every finished run after checking them against their markers."""
    hashes = {}
    for _, run in find_finished(results):
        for path in sorted(path for path in run.path.iterdir() if path.is_file() and not path.name.startswith(".")):
            hashes[path.relative_to(results).as_posix()] = file_digest(path)
    return hashes


def kill_test(
    results: Path,
    launcher: str,
    times: int,
    seed: int,
    log: Callable[[str], None] = print,
    moments: tuple[float, float] = MOMENTS,
) -> None:
    """Kills one of a multirun's processes at a time, starts it again when it has ended, and lets the last one end.

    Args:
        results: Results folder.
        launcher: ``local`` or ``serial``.
        times: Number of kills.
        seed: Decides the moments and the processes.
        log: Takes a line each.
        moments: Seconds from one kill to the next, at least and at most.

    Raises:
        AssertionError: a finished run was lost or altered, or the last multirun did not finish all cells.
    """
    generator = random.Random(seed)
    cells = CELLS_PER_KILL * times
    command = multirun(results, launcher, cells)
    kept: dict[str, str] = {}
    process = _start(command, results)
    for number in range(1, times + 1):
        if process.poll() is not None:
            process = _start(command, results)
        victim = _kill_one(process, generator, moments)
        time.sleep(1.0)  # for the others to notice
        kept = _check(results, kept)
        state = "goes on" if process.poll() is None else f"ended with status {process.returncode}"
        log(f"kill {number}: {victim}; the multirun {state}; {_runs(kept)} finished runs intact, none lost")
    log(f"the multirun that was left: status {process.wait()}")
    code = _start(command, results).wait()
    runs = _runs(_check(results, kept))
    assert code == 0 and runs == cells, f"status {code}, {runs} finished runs, see {results}/{LOG}"
    log(f"the last: status 0, {runs} of {cells} runs finished")


def _check(results: Path, kept: dict[str, str]) -> dict[str, str]:
    now = finished_hashes(results)
    lost = [name for name, digest in kept.items() if now.get(name) != digest]
    assert not lost, f"lost or altered: {lost}"
    return now


def _runs(hashes: dict[str, str]) -> int:
    return sum(name.endswith("/finished.json") and STAGED not in name for name in hashes)


def _start(command: list[str], results: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    with (results / LOG).open("ab") as output:
        return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=output, stderr=output)


def _kill_one(process: subprocess.Popen[bytes], generator: random.Random, moments: tuple[float, float]) -> str:
    """Kills the process or one below it at a random moment; returns which, and after how many seconds."""
    moment, share = generator.uniform(*moments), generator.random()
    started = time.monotonic()
    while time.monotonic() - started < moment and process.poll() is None:
        time.sleep(0.02)
    tree = process_tree(process.pid)
    chosen = int(share * len(tree))
    if process.poll() is not None:
        return "nothing, the multirun had ended"
    with suppress(ProcessLookupError):
        os.kill(tree[chosen], signal.SIGKILL)
    who = f"a process below the parent ({chosen} of {len(tree) - 1})" if chosen else "the parent"
    return f"{who} after {time.monotonic() - started:.1f} s"
