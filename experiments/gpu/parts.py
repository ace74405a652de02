"""The parts of ``make gpu``, each with its time, and the page made of what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from experiments.environment import environment_facts
from experiments.gpu import library, runs
from experiments.speed.measure import seconds_of
from experiments.speed.steps import ROOMS, TINY, Steps, measure_steps, rates_at_once
from experiments.speed.tables import benchmark_table
from experiments.store import write_atomically

# Of the paper: runs of each method (4 values of s, 3 seeds) of 300,000 steps; of each prior (3 versions, 5 seeds) of
# 1,000 epochs, here of all 60,000 digits in batches of 128.
PAPER_STEPS = {"weak_supervision": 12 * 300_000, "clustering": 15 * 1000 * 469}


@dataclass(frozen=True)
class Plan:
    """What a call of ``make gpu`` does.

    Attributes:
        accelerator: ``gpu`` or ``cpu``.
        output: folder of its files.
        smoke: tiny sizes, to see that every part runs.
        seconds: in all.
        profile: of the long runs, ``paper`` or ``medium``.
    """

    accelerator: str
    output: Path
    smoke: bool = False
    seconds: float = 540.0
    profile: str = "paper"
    started: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """That of the accelerator."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.started)


def facts(plan: Plan) -> Iterator[dict[str, Any]]:
    """What the machine is, and what it reaches at most."""
    for name, value in environment_facts(plan.accelerator).items():
        if not isinstance(value, dict):
            yield {"work": name, "passed": True, "figure": str(value)}
    size = 256 if plan.smoke or plan.accelerator == "cpu" else 8192
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        product = partial(torch.mm, *torch.randn(2, size, size, device=plan.device, dtype=dtype))
        rate = 2 * size**3 / min(seconds_of(product) for _ in range(5)) / 1e12
        yield {"work": f"matrix product, {size} x {size}, {name}", "passed": True, "figure": f"{rate:.1f} TFLOP/s"}
    torch.backends.cuda.matmul.allow_tf32 = False
    one = torch.zeros(1, device=plan.device)
    launch = seconds_of(lambda: one.add_(1), shortest=0.05)
    yield {"work": "a kernel on one number", "passed": True, "figure": f"{1e6 * launch:.1f} microseconds"}


def library_checks(plan: Plan) -> Iterator[dict[str, Any]]:
    """Values, draws and costs of the library."""
    yield from library.value_checks(plan.device)
    yield from library.draw_checks(plan.device, draws=20_000 if plan.smoke else 200_000)
    yield from library.call_costs(plan.device, repeats=2 if plan.smoke else 15)


def cells(plan: Plan) -> Iterator[dict[str, Any]]:
    """Every method and prior with checkpoint and resume, and several in one process."""
    chosen, folder = runs.small_cells(), plan.output / "cells"
    yield from runs.interrupted_cells(plan.accelerator, folder, chosen[:1] if plan.smoke else chosen)
    yield runs.cells_at_once(plan.accelerator, folder, *((2, "3") if plan.smoke else (4, "0,1,3,5")))


def rates(plan: Plan) -> Iterator[dict[str, Any]]:
    """Steps launched kernel by kernel, captured, and of several runs at once, and the paper's hours from them."""
    small: dict[str, Any] = TINY if plan.smoke else {"rounds": 3}
    for room in ROOMS[-1:] if plan.smoke else ROOMS:
        for graph in (False, True) if plan.accelerator == "gpu" else (False,):
            sizes = Steps(accelerator=plan.accelerator, graph=graph, **small)
            for line in measure_steps(room, sizes):
                hours = line["seconds_per_step"] * PAPER_STEPS[room] / 3600
                launched = "captured" if graph else "launched kernel by kernel"
                figure = f"{1000 * line['seconds_per_step']:.2f} ms a step, {line['ratio']:.2f} of the first's"
                figure += f", {hours:.1f} hours for the paper's runs one after the other"
                yield {"work": f"{room}, {line['side']}, {launched}", "passed": True, "figure": figure}
    for room in ROOMS[-1:] if plan.smoke else ROOMS:
        sizes = Steps(accelerator=plan.accelerator, graph=plan.accelerator == "gpu", **small | {"rounds": 1})
        for line in rates_at_once(room, sizes, (1, 2) if plan.smoke else (1, 2, 4, 8)):
            rate = line["steps_per_second"]
            hours = PAPER_STEPS[room] / rate / 3600
            figure = f"{rate:.3g} steps a second in all, {hours:.1f} hours for the paper's runs"
            yield {"work": f"{room}, {line['side']}, {line['at_once']} at once", "passed": True, "figure": figure}


def long_runs(plan: Plan) -> Iterator[dict[str, Any]]:
    """The paper's own runs, or those of another profile, while time is left."""
    profile = "smoke" if plan.smoke else plan.profile
    yield from runs.long_cells(plan.accelerator, plan.output / "runs", profile, plan.left - 10)


# Name -> what yields its lines and the seconds it may take; the last takes what is left.
PARTS: dict[str, tuple[Callable[[Plan], Iterable[dict[str, Any]]], float]] = {
    "facts": (facts, 30),
    "library": (library_checks, 100),
    "cells": (cells, 200),
    "rates": (rates, 160),
    "runs": (long_runs, float("inf")),
}


def run_part(name: str, plan: Plan) -> None:
    """Writes the lines of a part as they come, to ``<output>/<name>.partial.csv``, renamed when it is complete."""
    lines: list[dict[str, Any]] = []
    unfinished = plan.output / f"{name}.partial.csv"
    for line in PARTS[name][0](plan):
        lines.append(line)
        print(f"{'ok  ' if line['passed'] else 'FAIL'} {line['work']}: {line['figure']}", flush=True)
        write_atomically(unfinished, pd.DataFrame(lines).to_csv(index=False))
    if lines:
        unfinished.replace(plan.output / f"{name}.csv")


def page(plan: Plan, ended: dict[str, str]) -> str:
    """What was found, part by part; ``ended`` says of a part why it is not complete."""
    text = "# What a GPU does with this project\n"
    for name in PARTS:
        text += f"\n## {name.capitalize()}\n\n"
        if name in ended:
            text += f"Not complete: {ended[name]}.\n\n"
        for path in (plan.output / f"{name}.csv", plan.output / f"{name}.partial.csv"):
            if path.is_file():
                text += benchmark_table("", pd.read_csv(path)).markdown().lstrip()
                break
    return text
