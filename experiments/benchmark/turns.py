"""What the benchmarks of a training share: sides that take turns in one process, and the clock they are read by."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.benchmark.run import Row
from experiments.benchmark.sides import Skipped
from experiments.common.chunked import ChunkedTraining
from experiments.common.errors import ExperimentError


@dataclass(frozen=True, kw_only=True)
class Comparison(Row):
    """A side beside another; ratios are taken round by round, since the machine's speed drifts."""

    lowest_ratio: float | None = None
    highest_ratio: float | None = None


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """``ratio`` (the median), ``lowest_ratio`` and ``highest_ratio`` of the rounds' ratios."""
    values = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(values), "lowest_ratio": min(values), "highest_ratio": max(values)}


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every side returned in every round; there and back again, so that a drift of the speed favours no side.

    Args:
        sides: name -> its turn.
        rounds: how often every side has its turn.
    """
    results: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            results[name].append(sides[name]())
    return results


def device_of(accelerator: str) -> torch.device:
    """The device of ``cpu`` or ``gpu``."""
    return torch.device("cuda" if accelerator == "gpu" else "cpu")


def synchronizer(accelerator: str) -> Callable[[], None]:
    """Waits until the device has done its work; nothing to wait for on a CPU."""
    return torch.cuda.synchronize if accelerator == "gpu" else lambda: None


def check_accelerator(accelerator: str) -> None:
    """Refuses a GPU that isn't there.

    Raises:
        ExperimentError: naming the option.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ExperimentError("--accelerator gpu: torch finds no CUDA GPU here; leave it out to measure the CPU")


@contextmanager
def own_determinism() -> Iterator[None]:
    """Lightning's trainer sets torch's deterministic mode for the process; the next side must not run under it."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class Clock(pl.Callback):
    """Steps taken and time after every chunk, and the time at the end."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.marks: list[tuple[int, float]] = []
        self.end = 0.0

    def _mark(self, module: pl.LightningModule) -> None:
        assert isinstance(module, ChunkedTraining)
        self.synchronize()
        self.marks.append((module.steps_taken, time.perf_counter()))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._mark(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.synchronize()
        self.end = time.perf_counter()

    def seconds_per_step(self) -> float:
        """Of the steps after the first chunk; the end of the epoch counts apart."""
        (first, start), (last, end) = self.marks[1], self.marks[-1]
        return (end - start) / (last - first)

    def end_seconds(self) -> float:
        """Of the end of the epoch: checks, scores, the checkpoint."""
        return self.end - self.marks[-1][1]


def check_compiler() -> None:
    """Raises Skipped without the C++ compiler that torch.compile would call."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise Skipped(f"torch.compile: no C++ compiler ({compiler} is not there; CXX names another)")


def first_compiled_step(fit: Callable[[int], Clock]) -> float:
    """Takes a compiled training's first step and returns its seconds, nearly all of them the compiler's.

    Args:
        fit: trains for a number of steps.

    Raises:
        Skipped: it fails; with the reason.
    """
    try:
        with torch._inductor.config.patch(force_disable_caches=True):
            clock = fit(1)
    except Exception as error:  # whatever dynamo, inductor or the compiler raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise Skipped(f"torch.compile: {type(error).__name__}: {reason}") from error
    (_, start), (_, end) = clock.marks
    return end - start
