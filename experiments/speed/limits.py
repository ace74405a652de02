"""Time and memory beside what is wanted: closed forms at small batches, their growth with the groups, huge groups."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.distributions import kl_divergence

from experiments.settings import PositiveInt, settings
from experiments.speed.measure import comparison, in_turns, memory_growth_mib
from mvhg import MultivariateHypergeometric as Law

Quantity = Callable[[Law], torch.Tensor]
QUANTITIES: dict[str, Quantity] = {
    "mean": lambda law: law.mean,
    "variance": lambda law: law.variance,
    "log_partition": lambda law: law.log_partition,
    "entropy": lambda law: law.entropy(),
    "marginals": lambda law: law.marginal_log_probs(),
    "KL divergence": lambda law: kl_divergence(
        law, Law(law.total_count, law.group_sizes, log_weights=-law.log_weights)
    ),
}
SMALL = {"mean": 0.8, "KL divergence": 1.2, "entropy": 2.0, "marginals": 2.0}  # milliseconds that are wanted
UNITS = {"s": 1.0, "ms": 1e3}  # a second in the unit
HUGE = ((100_000_000, 50_000_000, 500_000), 1000)
MOST_MIB = 50.0


@settings
class Limits:
    """What is measured.

    Attributes:
        batch: Laws at once.
        rounds: How often each work has its turn.
        few_groups, many_groups: The growth is of the time between these.
        large_batch: Of the paper's urn, for entropy and marginals.
    """

    batch: PositiveInt = 64
    rounds: PositiveInt = 7
    few_groups: PositiveInt = 50
    many_groups: PositiveInt = 400
    large_batch: PositiveInt = 1000


class Limit(NamedTuple):
    """Some work, and the most that it may take.

    Attributes:
        work: In words.
        call: Does it, construction of the law included.
        most: In the unit.
        unit: "ms" or "s"; "times" the seconds of ``beside``.
        beside: Other work.
        shortest: Seconds that a turn takes at least.
    """

    work: str
    call: Callable[[], object]
    most: float
    unit: str = "times"
    beside: Callable[[], object] | None = None
    shortest: float = 0.0


def _compute(quantity: Quantity, group_size: int, total: int, start: torch.Tensor, backward: bool = False) -> object:
    log_weights = start.clone().requires_grad_(backward)
    value = quantity(Law(total, [group_size] * start.shape[-1], log_weights=log_weights))
    return value.sum().backward() if backward else value


def limits(sizes: Limits) -> Iterator[Limit]:
    """Yields what is measured, float32 but for the growth."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    small, many, large = normal(sizes.batch, 2), normal(sizes.batch, 200), normal(sizes.large_batch, 3)
    counts = Law(10, [10, 10], log_weights=small).sample()
    urn = f"m = 10, 10, n = 10, batch {sizes.batch}"
    log_prob = partial(_compute, lambda law: law.log_prob(counts), 10, 10, small, backward=True)
    yield Limit(f"log_prob, backward, {urn}", log_prob, 0.6, "ms", shortest=0.05)
    for name, most in SMALL.items():
        call = partial(_compute, QUANTITIES[name], 10, 10, small)
        yield Limit(f"{name}, {urn}", call, most, "ms", shortest=0.05)
    ends = sizes.few_groups, sizes.many_groups
    for name in ("mean", "variance", "KL divergence"):
        start = [torch.linspace(-1, 1, groups, dtype=torch.float64) for groups in ends]
        few, many_groups = (partial(_compute, QUANTITIES[name], 20, 5 * len(one), one) for one in start)
        work, most = f"{name}, {ends[0]} to {ends[1]} groups", 1.5 * ends[1] / ends[0]
        yield Limit(work, many_groups, most, beside=few, shortest=0.02)
    backward = {name: partial(_compute, one, 20, 1000, many, backward=True) for name, one in QUANTITIES.items()}
    for name in ("mean", "variance"):
        work = f"{name}, backward, 200 groups, batch {sizes.batch}, beside log_partition"
        yield Limit(work, backward[name], 3.0, beside=backward["log_partition"])
    for name in ("entropy", "marginals"):
        call = partial(_compute, QUANTITIES[name], 200, 180, large)
        yield Limit(f"{name}, m = 200 x 3, n = 180, batch {sizes.large_batch:,}", call, 0.3, "s")
    yield Limit(f"sample, {_huge_in_words()}, two draws", _draw_huge, 50.0, "ms")


def measure_limits(sizes: Limits) -> Iterator[dict[str, Any]]:
    """Yields a ``comparison`` per piece of work with the most that is wanted; on one thread."""
    for limit in limits(sizes):
        sides = {"ours": limit.call} | ({"beside": limit.beside} if limit.beside else {})
        seconds = {
            name: statistics.median(values)
            for name, values in in_turns(sides, sizes.rounds, shortest=limit.shortest).items()
        }
        value = seconds["ours"] / seconds["beside"] if limit.beside else UNITS[limit.unit] * seconds["ours"]
        yield comparison(limit.work, value, limit.unit, "wanted", limit.most, value / limit.most, "<= 1")
    grown = memory_growth_mib(_draw_huge)
    work = f"peak memory, sample, {_huge_in_words()}, two draws"
    yield comparison(work, grown, "MiB", "wanted", MOST_MIB, grown / MOST_MIB, "<= 1")


def _huge_in_words() -> str:
    sizes, total = HUGE
    return f"n = {total:,} from {', '.join(f'{size:.0e}' for size in sizes)}"


def _draw_huge() -> object:
    sizes, total = HUGE
    return Law(total, list(sizes), torch.tensor([1.0, 2.0, 1.0])).sample((2,))
