"""Cells on a device: every method and prior with an interruption, and long ones as time allows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.configuration import CONFIGS
from experiments.progress import AGAIN

CHECKOUT = Path(__file__).resolve().parents[2]
CELLS_BESIDE = 5  # processes; most of a small cell's time is Python's start
# Of a profile, in the order that decides most; those of a command at once. mpi3d_sim on the positions that come with
# the code: the published files are 12.7 GB.
_SIM = ("shared=3", "experiment.data.source=mpi3d_sim", "experiment.data.positions=8")
CELLS = {
    "paper": (
        ("experiment=clustering", "prior=uniform,categorical,hypergeometric", "version=60"),
        ("experiment=weak_supervision", "method=hgvae", "shared=3,5", *_SIM[1:]),
        ("experiment=weak_supervision", "method=label_vae,ada_vae", *_SIM),
    ),
    "medium": (
        ("experiment=weak_supervision", "shared=3,1,5", "method=posterior_hgvae,hgvae,ada_vae,label_vae"),
        ("experiment=clustering", "prior=hypergeometric,uniform,categorical", "version=full,60", "seed=0,1,2"),
        ("experiment=clustering", "recipe=vade", "prior=hypergeometric,uniform,categorical", "version=60", "seed=0,1"),
    ),
    "smoke": (("experiment=weak_supervision", "method=label_vae,ada_vae", *_SIM),),
}


def small_cells() -> list[tuple[str, ...]]:
    """Every method and every prior."""
    methods, priors = (sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")) for group in ("method", "prior"))
    pairs = [("experiment=weak_supervision", f"method={method}", "shared=3") for method in methods]
    return [*pairs, *(("experiment=clustering", f"prior={prior}", "version=60") for prior in priors)]


def run_cell(
    cell: tuple[str, ...], settings: list[str], log: Path, seconds: float, until: Callable[[], bool] = lambda: False
) -> int | None:
    """Runs one cell, and ends it by SIGTERM after some seconds or as soon as ``until`` holds; what it prints is logged.

    Returns:
        Its exit status; None where it was ended.
    """
    command = [sys.executable, "-m", "experiments.run", *cell, *settings, "logger=disabled"]
    end, ended = time.monotonic() + seconds, False
    with log.open("a") as file:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if not ended and (time.monotonic() > end or until()):
                ended = True
                process.send_signal(signal.SIGTERM)
            elif time.monotonic() > end + 20:
                process.kill()
            time.sleep(0.05)
    return None if ended else process.returncode


def interrupted_cells(accelerator: str, folder: Path, cells: list[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """Runs every cell in the smoke profile, ended once it has a checkpoint, and again to its end.

    Yields:
        A line per cell with ``work``, ``passed`` and ``figure``.
    """

    def run(number: int, cell: tuple[str, ...]) -> dict[str, Any]:
        results = folder / f"cell_{number}"
        log, runs = folder / f"cell_{number}.txt", results / "runs"
        settings = [f"trainer={accelerator}", "profile=smoke", f"results={results}"]
        start = time.monotonic()
        first = run_cell(cell, settings, log, 120, lambda: any(runs.rglob("last.ckpt")))
        status = first if first is not None else run_cell(cell, settings, log, 120)
        figure = f"{time.monotonic() - start:.0f} s, " + (
            "too quick to be interrupted" if first is not None else "interrupted at its first checkpoint"
        )
        if status != 0:
            figure += f", failed: {last_line(log)}"
        return {"work": " ".join(cell), "passed": status == 0, "figure": figure}

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(CELLS_BESIDE) as threads:
        yield from threads.map(run, range(len(cells)), cells)


def cells_at_once(accelerator: str, folder: Path, at_once: int, shared: str) -> dict[str, Any]:
    """Whether cells that share a process leave each other alone: some end while others are at work.

    Args:
        accelerator: of the trainer.
        folder: for the files.
        at_once: cells of the process.
        shared: values of s, of which every one makes two cells.

    Returns:
        A line with ``work``, ``passed`` and ``figure``.
    """
    cell = ("-m", "experiment=weak_supervision", "method=ada_vae,hgvae", f"shared={shared}", "profile=smoke")
    log = folder / "cells_at_once.txt"
    settings = [f"trainer={accelerator}", f"results={folder / 'cells_at_once'}", f"runs_at_once={at_once}"]
    start = time.monotonic()
    status = run_cell(cell, settings, log, 120)
    figure = f"{time.monotonic() - start:.0f} s" + (f", failed: {last_line(log)}" if status != 0 else "")
    return {"work": f"{' '.join(cell)}, {at_once} at once", "passed": status == 0, "figure": figure}


def long_cells(accelerator: str, results: Path, profile: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Trains four cells of a command at once, and one command after the other, while time is left.

    What is interrupted goes on the next time. A command that fails is tried again with one cell at a time.

    Yields:
        A line per command with ``work``, ``passed`` and ``figure``.
    """
    end = time.monotonic() + seconds
    results.mkdir(parents=True, exist_ok=True)
    log = results / f"{profile}.txt"
    for cell in CELLS[profile]:
        settings = [f"trainer={accelerator}", f"profile={profile}", f"results={results}"]
        figure = ""
        for more in (["runs_at_once=4"], ["runs_at_once=1"]):
            if end - time.monotonic() < 5:
                return
            status = run_cell(("-m", *cell), settings + more, log, end - time.monotonic())
            words = "interrupted; the same command goes on" if status is None else "finished"
            figure += words if status in (0, None) else f"failed: {last_line(log)}; one by one: "
            if status in (0, None):
                break
        yield {"work": " ".join(cell), "passed": status in (0, None), "figure": figure.removesuffix("; one by one: ")}


def last_line(log: Path) -> str:
    """The last line of a log that says something about this run."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and line != AGAIN]
    return lines[-1] if lines else "it said nothing"
