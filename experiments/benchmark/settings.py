"""What is measured: the urn of the paper's Section 5.1 and the sizes of every piece of work."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark. Full by default; ``quick()`` is for a look and for the tests."""

    group_sizes: tuple[int, ...] = (200, 200, 200)
    total_count: int = 180
    weights: tuple[float, ...] = (1.0, 2.0, 1.0)
    coefficients: tuple[float, ...] = (1.0, -2.0, 0.5)
    """The loss of forward + backward is the sum over all samples of coefficients . counts."""
    temperature: float = 0.5
    draws: int = 1_000_000
    batch: int = 10_000
    official_batch: int = 1_000
    """The authors' code takes 0.7 MB per sample: its rate and memory are measured here and scaled to ``batch``."""
    rounds: int = 3
    repeats: int = 3
    partition_group_sizes: tuple[int, ...] = (6_000,) * 10
    partition_total_count: int = 30_000
    scaling_groups: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    scaling_total_counts: tuple[int, ...] = (12_500, 25_000, 50_000, 100_000)
    scaling_draws: int = 100
    judged: bool = True
    """Whether the rows are held against their targets: at tiny sizes only overheads are measured."""

    @classmethod
    def quick(cls) -> "Settings":
        return cls(
            group_sizes=(20, 20, 20),
            total_count=18,
            draws=20_000,
            batch=200,
            official_batch=50,
            rounds=1,
            repeats=2,
            partition_group_sizes=(60,) * 10,
            partition_total_count=300,
            scaling_groups=(4, 8),
            scaling_total_counts=(200, 400),
            scaling_draws=10,
            judged=False,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
