"""Run each side of a comparison in its own process and alternate between them."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.benchmark.settings import Settings
from experiments.common.authors import REPOSITORY, check_checkout
from experiments.common.errors import ExperimentError

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parents[1]


class Skipped(Exception):
    """One side of a comparison isn't there; the message says what is missing."""


def last_json_line(command: list[str], threads: int) -> dict[str, Any]:
    """Runs a command and returns what its last line says.

    Raises:
        ExperimentError: it failed; with the last line of its errors.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ExperimentError(f"{Path(command[0]).name} {' '.join(command[1:3])[:80]} failed: {reason[0]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def check_official(path: Path | None) -> Path:
    """The authors' checkout, or Skipped with the reason why it can't be measured."""
    if path is None:
        raise Skipped(f"the authors' code: no --official PATH given (a checkout of {REPOSITORY})")
    try:
        return check_checkout(path)
    except ExperimentError as error:
        raise Skipped(f"the authors' code: {error}") from None


def check_biased_urn() -> str:
    """The Rscript program, or Skipped with the reason."""
    program = shutil.which("Rscript")
    if program is None:
        raise Skipped("BiasedUrn: Rscript is not installed (Debian: r-base-core, r-cran-biasedurn)")
    probe = 'quit(status = as.integer(!requireNamespace("BiasedUrn", quietly = TRUE)))'
    if subprocess.run([program, "-e", probe], capture_output=True, check=False).returncode != 0:
        raise Skipped("BiasedUrn: the R package is not installed (Debian: r-cran-biasedurn)")
    return program


def run_library(work: str, settings: Settings, threads: int, memory: bool = False) -> dict[str, Any]:
    """One process of this project's side (or of NumPy's): see library_worker."""
    job = {"work": work, "settings": settings.as_dict(), "memory": memory}
    return last_json_line([sys.executable, "-m", "experiments.benchmark.library_worker", json.dumps(job)], threads)


def run_official(path: Path, settings: Settings, threads: int, memory: bool = False) -> dict[str, Any]:
    """One process of the authors' straight-through sampler, forward + backward at ``official_batch`` samples."""
    job = {
        "path": str(path),
        "group_sizes": settings.group_sizes,
        "total_count": settings.total_count,
        "weights": settings.weights,
        "coefficients": settings.coefficients,
        "temperature": settings.temperature,
        "batch": settings.official_batch,
        "repeats": settings.repeats,
        "memory": memory,
    }
    return last_json_line([sys.executable, "-m", "experiments.benchmark.official_worker", json.dumps(job)], threads)


def run_biased_urn(program: str, settings: Settings) -> dict[str, Any]:
    """One process of BiasedUrn's rMFNCHypergeo (it computes on one thread)."""
    sizes, weights = (",".join(map(str, values)) for values in (settings.group_sizes, settings.weights))
    arguments = [str(settings.draws), str(settings.repeats), str(settings.total_count), sizes, weights]
    return last_json_line([program, str(FOLDER / "biased_urn.R"), *arguments], 1)


def alternate(sides: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of every repeat of every side, taken in turns: round by round, side by side.

    Args:
        sides: name -> function without arguments that runs one process and returns its result.
        rounds: how many times to go round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            seconds[name] += run()["seconds"]
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}
