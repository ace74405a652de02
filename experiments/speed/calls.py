"""The library's calls that are counted and timed, on urns that users have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from mvhg import MultivariateHypergeometric as Law
from mvhg import MultivariateHypergeometricStraightThrough as StraightThrough


class Urn(NamedTuple):
    """An urn, and what is asked of it.

    Attributes:
        group_sizes: Sizes m.
        total_count: Number of elements drawn, n.
        batch: Shape of laws at once, each with weights of its own; empty for one law.
        draws: Shape of draws of every law.
    """

    group_sizes: tuple[int, ...]
    total_count: int
    batch: tuple[int, ...] = ()
    draws: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Sizes and count in words, such as "m = 10 x 2, n = 10"."""
        sizes = self.group_sizes
        alike = len(set(sizes)) == 1
        return f"m = {f'{sizes[0]} x {len(sizes)}' if alike else ', '.join(map(str, sizes))}, n = {self.total_count}"

    @property
    def words(self) -> str:
        """The name with laws and draws."""
        laws = f"batch {self.batch[0]}" if self.batch else "one law"
        return f"{self.name}, {laws}" + (f", {self.draws[0]:,} draws" if self.draws else "")

    def log_weights(self, scale: float = 2.0) -> Tensor:
        """The same whenever asked for, float64 on the CPU, [*batch, groups]."""
        shape = (*self.batch, len(self.group_sizes))
        return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


URNS = (
    Urn((10, 10), 10, (64,)),
    Urn((3, 5, 4), 5, (64,)),
    Urn((200,) * 3, 180, (), (10_000,)),
    Urn((128,) * 10, 128),
)


def calls(urn: Urn, temperature: float, device: torch.device) -> dict[str, Callable[[], Any]]:
    """Work by name: construction of the law included, validation off, sizes as numbers, float32."""
    start = urn.log_weights()
    counts = Law(urn.total_count, urn.group_sizes, log_weights=start).sample(urn.draws).to(device, torch.float32)
    start = start.to(device, torch.float32)
    other = Law(urn.total_count, urn.group_sizes, log_weights=0.5 * start, validate_args=False)

    def given() -> dict[str, Any]:
        log_weights = start.detach().requires_grad_(True)
        return {
            "log_weights": log_weights,
            "total_count": urn.total_count,
            "group_sizes": urn.group_sizes,
            "validate_args": False,
        }

    def selection() -> None:
        drawn = StraightThrough(temperature, **given()).rsample_selection(urn.draws)
        (drawn.counts.sum() + drawn.prefix_mask.square().sum()).backward()

    return {
        "selection, backward": selection,
        "rsample, backward": lambda: (
            StraightThrough(temperature, **given()).rsample(urn.draws).square().sum().backward()
        ),
        "sample": lambda: Law(**given()).sample(urn.draws),
        "log_prob, backward": lambda: Law(**given()).log_prob(counts).sum().backward(),
        "mean, backward": lambda: Law(**given()).mean.square().sum().backward(),
        "KL divergence, backward": lambda: kl_divergence(Law(**given()), other).sum().backward(),
        "entropy": lambda: Law(**given()).entropy(),
        "marginals": lambda: Law(**given()).marginal_log_probs(),
    }


def every_call(device: torch.device) -> Iterator[tuple[Urn, float, str, Callable[[], Any]]]:
    """Yields urn, temperature, name and call: all at temperature 0.5, and what depends on it at 2 as well."""
    for urn in URNS:
        for temperature in (0.5, 2.0):
            for name, call in calls(urn, temperature, device).items():
                if temperature == 0.5 or name.startswith(("selection", "rsample")):
                    yield urn, temperature, name, call
