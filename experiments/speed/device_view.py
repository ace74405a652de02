"""Kernels and synchronisations of the library's calls, as a GPU would see them, and whether they compile whole.

In a process of its own, ``python -m experiments.speed.device_view``: torch takes a new device only before its first
backward pass, and other tools stumble over it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

import mvhg
from experiments.settings import ExperimentError
from experiments.speed.pretended_device import pretend, watched

CHECKOUT = Path(__file__).resolve().parents[2]
Law, StraightThrough = mvhg.MultivariateHypergeometric, mvhg.MultivariateHypergeometricStraightThrough


class Case(NamedTuple):
    """An urn, the shape of its log weights, how many draws, and the most kernels that are wanted of a selection."""

    group_sizes: list[int]
    total_count: int
    shape: tuple[int, ...]
    draws: tuple[int, ...]
    kernels: int


CASES = {
    "m = 10 x 2, n = 10, batch 64": Case([10] * 2, 10, (64, 2), (), 200),
    "m = 3, 5, 4, n = 5, batch 64": Case([3, 5, 4], 5, (64, 3), (), 450),
    "m = 200 x 3, n = 180, one law, 10,000 draws": Case([200] * 3, 180, (3,), (10_000,), 450),
    "m = 128 x 10, n = 128, one law": Case([128] * 10, 128, (10,), (), 1500),
}


def calls(case: Case, counts: torch.Tensor, temperature: float) -> dict[str, Callable[[torch.Tensor], object]]:
    """Work by name; each takes the log weights."""
    urn: dict[str, Any] = {"total_count": case.total_count, "group_sizes": case.group_sizes, "validate_args": False}

    def selection(log_weights: torch.Tensor) -> object:
        drawn = StraightThrough(temperature, log_weights=log_weights, **urn).rsample_selection(case.draws)
        return (drawn.counts.sum() + drawn.prefix_mask.square().sum()).backward()

    def rsample(log_weights: torch.Tensor) -> object:
        counts = StraightThrough(temperature, log_weights=log_weights, **urn).rsample(case.draws)
        return counts.square().sum().backward()

    def log_prob(log_weights: torch.Tensor) -> object:
        return Law(log_weights=log_weights, **urn).log_prob(counts).sum().backward()

    return {
        "selection, backward": selection,
        "rsample, backward": rsample,
        "sample": lambda log_weights: Law(log_weights=log_weights, **urn).sample(case.draws),
        "log_prob, backward": log_prob,
        "mean, backward": lambda log_weights: Law(log_weights=log_weights, **urn).mean.square().sum().backward(),
    }


def compiles(case: Case, temperature: float) -> bool:
    """Whether a draw is traced as one graph."""

    def draw(log_weights: torch.Tensor) -> torch.Tensor:
        law = StraightThrough(
            temperature, case.total_count, case.group_sizes, log_weights=log_weights, validate_args=False
        )
        return law.rsample()

    try:
        torch.compile(draw, fullgraph=True, backend="aot_eager")(torch.zeros(len(case.group_sizes)))
    except Exception:  # whatever dynamo raises
        return False
    finally:
        torch.compiler.reset()
    return True


def measure_device_view(log: Callable[[str], None]) -> pd.DataFrame:
    """Counts every call of every case at temperatures below and above 1.

    Returns:
        A line per call: urn, temperature, call, kernels, the most that are wanted, synchronisations, and of selections
        whether the draw compiles whole.

    Raises:
        ExperimentError: the process failed; with the last line of its errors.
    """
    command = [sys.executable, "-W", "ignore", "-m", "experiments.speed.device_view"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ExperimentError(f"device view: {done.stderr.strip().splitlines()[-1]}")
    table = pd.DataFrame(json.loads(done.stdout.strip().splitlines()[-1]))
    for line in table.itertuples():
        asked = f"{line.kernels} kernels, {line.synchronisations} synchronisations"
        log(f"{line.urn}, temperature {line.temperature:g}, {line.call}: {asked}")
    return table


def count_calls() -> list[dict[str, Any]]:
    """The lines of ``measure_device_view``."""
    lines = []
    for name, case in CASES.items():
        log_weights = 0.3 * torch.randn(case.shape, generator=torch.Generator().manual_seed(0))
        counts = pretend(Law(case.total_count, case.group_sizes, log_weights=log_weights).sample(case.draws))
        for temperature in (0.5, 2.0):
            for call, work in calls(case, counts, temperature).items():
                differentiable = "rsample" in call or "selection" in call
                if temperature != 0.5 and not differentiable:
                    continue
                leaf = pretend(log_weights).requires_grad_(True)
                with watched() as seen:
                    work(leaf)
                selection = call.startswith("selection")
                line: dict[str, Any] = {"urn": name, "temperature": temperature, "call": call, "kernels": seen.kernels}
                line |= {"wanted": f"<= {case.kernels}" if selection else ""}
                line |= {"synchronisations": seen.synchronisations}
                lines.append(line | {"compiles": ("yes" if compiles(case, temperature) else "no") if selection else ""})
    return lines


if __name__ == "__main__":
    print(json.dumps(count_calls()), flush=True)
    os._exit(0)  # the thread that torch starts for the device would not end
