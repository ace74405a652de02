"""Latencies of the closed forms at small batches, and how they grow with the groups."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import kl_divergence

import mvhg
from experiments.settings import PositiveInt, settings
from experiments.speed.measure import comparison, in_turns, in_words

Law = mvhg.MultivariateHypergeometric


@settings
class ClosedForms:
    """What is measured.

    Attributes:
        batch: Laws at once.
        rounds: How often the sides take turns.
        few_groups, many_groups: The growth is of the time between these.
        large_batch: Of the paper's urn, for entropy and marginals.
    """

    batch: PositiveInt = 64
    rounds: PositiveInt = 7
    few_groups: PositiveInt = 50
    many_groups: PositiveInt = 400
    large_batch: PositiveInt = 1000


SMALL_TARGETS = {"log_prob, backward": 0.6, "mean": 0.8, "KL divergence": 1.2, "entropy": 2.0, "marginals": 2.0}


def _small(batch: int) -> dict[str, Callable[[], object]]:
    """Work on m = 10, 10 and n = 10, construction included."""
    log_weights = torch.randn(batch, 2, generator=torch.Generator().manual_seed(0))
    counts = Law(10, [10, 10], log_weights=log_weights).sample()

    def law(**options: Any) -> Law:
        return Law(10, [10, 10], log_weights=log_weights, **options)

    def log_prob() -> object:
        weights = log_weights.clone().requires_grad_(True)
        return Law(10, [10, 10], log_weights=weights).log_prob(counts).sum().backward()

    return {
        "log_prob, backward": log_prob,
        "mean": lambda: law().mean,
        "KL divergence": lambda: kl_divergence(law(), law()),
        "entropy": lambda: law().entropy(),
        "marginals": lambda: law().marginal_log_probs(),
    }


def _growing(groups: int) -> dict[str, Callable[[], object]]:
    sizes, total = [20] * groups, 5 * groups
    log_weights = torch.linspace(-1, 1, groups, dtype=torch.float64)

    def law() -> Law:
        return Law(total, sizes, log_weights=log_weights)

    return {
        "mean": lambda: law().mean,
        "variance": lambda: law().variance,
        "KL divergence": lambda: kl_divergence(law(), Law(total, sizes, log_weights=-log_weights)),
    }


def _backward(quantity: str, groups: int, batch: int) -> Callable[[], object]:
    start = torch.randn(batch, groups, generator=torch.Generator().manual_seed(0))

    def call() -> object:
        log_weights = start.clone().requires_grad_(True)
        law = Law(5 * groups, [20] * groups, log_weights=log_weights)
        return getattr(law, quantity).sum().backward()

    return call


def measure_closed_forms(settings: ClosedForms, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measures on one thread, float32 unless said otherwise, construction included.

    Returns:
        A ``comparison`` per piece of work with the most that is wanted.
    """
    lines: list[dict[str, Any]] = []

    def add(work: str, value: float, unit: str, wanted: float) -> None:
        lines.append(comparison(work, value, unit, "wanted", wanted, value / wanted, "<= 1"))
        log(in_words(lines[-1]))

    seconds = in_turns(_small(settings.batch), settings.rounds, shortest=0.05)
    for name, values in seconds.items():
        work = f"{name}, m = 10, 10, n = 10, batch {settings.batch}"
        add(work, 1e3 * statistics.median(values), "ms", SMALL_TARGETS[name])
    few, many = _growing(settings.few_groups), _growing(settings.many_groups)
    for name in few:
        seconds = in_turns({"few": few[name], "many": many[name]}, settings.rounds, shortest=0.02)
        growth = statistics.median(seconds["many"]) / statistics.median(seconds["few"])
        work = f"{name}, {settings.few_groups} to {settings.many_groups} groups"
        add(work, growth, "times", 1.5 * settings.many_groups / settings.few_groups)
    for name in ("mean", "variance"):
        sides = {side: _backward(side, 200, settings.batch) for side in (name, "log_partition")}
        seconds = in_turns(sides, settings.rounds)
        ratio = statistics.median(seconds[name]) / statistics.median(seconds["log_partition"])
        add(f"{name}, backward, 200 groups, batch {settings.batch}, beside log_partition", ratio, "times", 3.0)
    start = torch.randn(settings.large_batch, 3, generator=torch.Generator().manual_seed(0))
    large = {
        "entropy": lambda: Law(180, [200] * 3, log_weights=start).entropy(),
        "marginals": lambda: Law(180, [200] * 3, log_weights=start).marginal_log_probs(),
    }
    for name, values in in_turns(large, min(3, settings.rounds)).items():
        add(f"{name}, m = 200 x 3, n = 180, batch {settings.large_batch:,}", statistics.median(values), "s", 0.3)
    return lines
