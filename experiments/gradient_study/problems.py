"""The small urns, their weights and the functions whose expected value is differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COEFFICIENTS = (1.0, -2.0, 0.5)


@dataclass(frozen=True)
class Problem:
    """One urn with one set of weights.

    ``corner`` is the point e of the quadratic f(x) = |x - e|^2. It is far from the mean on purpose: near the mean the
    exact gradient vanishes and no relative error means anything. ``target`` is the largest relative error of the mean
    gradient to be reached with exact conditionals at temperature 0.5, by the first two functions.
    """

    group_sizes: tuple[int, ...]
    total_count: int
    corner: tuple[int, ...]
    weights: tuple[float, ...]
    target: float

    @property
    def urn(self) -> str:
        return f"m = {', '.join(map(str, self.group_sizes))}; n = {self.total_count}"

    @property
    def functions(self) -> dict[str, Callable[[Any], Any]]:
        """The functions of counts [..., 3] -> [...]; they take NumPy arrays and torch tensors alike."""
        return {
            "linear": lambda counts: sum(factor * counts[..., i] for i, factor in enumerate(COEFFICIENTS)),
            "quadratic": lambda counts: sum((counts[..., i] - place) ** 2 for i, place in enumerate(self.corner)),
            "quartic": lambda counts: sum((counts[..., i] - place) ** 4 for i, place in enumerate(self.corner)),
        }


def problems() -> Iterator[Problem]:
    """Both urns with all three sets of weights."""
    for group_sizes, total_count, corner, target in (
        ((3, 5, 4), 5, (3, 0, 2), 0.10),
        ((20, 20, 20), 18, (14, 0, 4), 0.02),
    ):
        for weights in ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 2.0, 3.0)):
            yield Problem(group_sizes, total_count, corner, weights, target)
