"""The urns that the library's tests run through, property by property."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Urn:
    """n draws from groups of sizes m_i with log weights log omega_i."""

    name: str
    total_count: int
    group_sizes: tuple[int, ...]
    log_weights: tuple[float, ...]

    @property
    def arguments(self) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
        """The oracle's arguments."""
        return self.total_count, self.group_sizes, self.log_weights

    @property
    def groups(self) -> int:
        return len(self.group_sizes)

    def __str__(self) -> str:
        return self.name


def _logs(*weights: float) -> tuple[float, ...]:
    return tuple(math.log(weight) for weight in weights)


# Supports of at most 5,000 points: the oracle enumerates them in rational arithmetic.
SMALL = (
    Urn("equal", 5, (3, 5, 4), (0.0, 0.0, 0.0)),
    Urn("equal-scaled", 5, (3, 5, 4), (3.0, 3.0, 3.0)),
    Urn("middle-heavy", 5, (3, 5, 4), _logs(1, 5, 1)),
    Urn("rising", 5, (3, 5, 4), _logs(1, 2, 3)),
    Urn("twenty-each", 18, (20, 20, 20), _logs(1, 5, 1)),
    Urn("two-groups", 7, (5, 9), _logs(0.3, 2)),
    Urn("two-groups-extreme", 30, (40, 25), (-30.0, 20.0)),
    Urn("one-group", 3, (7,), (0.7,)),
    Urn("nothing-drawn", 0, (3, 4, 2), _logs(1, 5, 2)),
    Urn("all-drawn", 9, (3, 4, 2), _logs(1, 5, 2)),
    Urn("one-left", 8, (3, 4, 2), _logs(1, 5, 2)),
    Urn("one-drawn", 1, (3, 4, 2), _logs(1, 5, 2)),
    Urn("empty-groups", 3, (4, 0, 3, 0), _logs(1, 7, 3, 0.1)),
    Urn("empty-urn", 0, (0, 0), (0.0, 1.0)),
    Urn("plateau", 3, (3, 2, 4), (50.0, -50.0, 0.0)),
    Urn("between-plateaus", 6, (4, 5, 4), (50.0, -50.0, 50.0)),
    Urn("rare-group", 6, (6, 6, 2), (0.0, 0.0, -20.0)),
    Urn("five-groups", 6, (2, 3, 1, 4, 2), _logs(0.2, 1, 9, 0.5, 3)),
    Urn("singletons", 5, (1,) * 10, tuple(0.3 * i - 1.5 for i in range(10))),
)

# Log-domain convolution over the whole support.
MEDIUM = (
    Urn("paper", 180, (200, 200, 200), _logs(1, 5, 1)),
    Urn("paper-equal", 180, (200, 200, 200), (0.0, 0.0, 0.0)),
    Urn("paper-last-heavy", 140, (200, 300, 50), _logs(1, 1, 10)),
    Urn("deep-tails", 100, (1000, 5, 5), (0.0, 20.0, 20.0)),
    Urn("wide-plateau", 100, (100, 100, 100), (50.0, 0.0, -50.0)),
    Urn("wide-half-plateau", 150, (100, 100, 100), (50.0, 0.0, -50.0)),
    Urn("more-than-half", 420, (200, 200, 200), _logs(1, 5, 1)),
    Urn("one-kind-must-fill", 100, (3, 120, 2), (40.0, -50.0, 50.0)),
    Urn("many-groups", 150, tuple(i % 9 for i in range(64)), tuple(2.0 * math.sin(i) for i in range(64))),
    Urn("rare-group-large", 1500, (3000, 2000, 10), (0.0, 0.5, -15.0)),
    Urn("ten-thousand", 4000, (10_000, 6000, 3000), _logs(1, 0.2, 4)),
)

# Too large for that: windows of tilted binomials, and single points in the tails.
LARGE = (
    Urn("million-each", 100_000, (1_000_000,) * 3, _logs(1, 5, 1)),
    Urn("million-extreme", 100_000, (1_000_000, 10, 1000), (-50.0, 50.0, 0.0)),
    Urn("million-two-extreme", 100_000, (1_000_000, 1_000_000), (50.0, -50.0)),
    Urn("million-cliff", 100_000, (100_000, 1_000_000, 50_000), (50.0, -50.0, 0.0)),
    Urn("million-mixed", 100_000, (1_000_000, 500_000, 200_000, 10), (0.0, -3.0, 2.0, -15.0)),
)


def _extreme() -> tuple[Urn, ...]:
    generator = np.random.default_rng(20230501)
    urns = []
    for i in range(12):
        groups = int(generator.integers(2, 6))
        sizes = (10 ** generator.uniform(0, 6, size=groups)).astype(int)
        total = int(min(100_000, generator.integers(0, sizes.sum() + 1)))
        spread = generator.uniform(-50, 50, size=groups) if i % 2 else 50.0 * generator.choice([-1.0, 1.0], size=groups)
        urns.append(Urn(f"random-{i}", total, tuple(sizes.tolist()), tuple(spread.tolist())))
    return tuple(urns)


# Up to millions of elements and weights of up to exp(50), at random.
EXTREME = _extreme()

ALL = SMALL + MEDIUM + LARGE
BY_NAME = {urn.name: urn for urn in ALL}
