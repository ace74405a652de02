"""The small urns and functions, and exact gradients over the whole support.

Those of the true law are in NumPy, without this project's library.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import gammaln, logsumexp

from mvhg import MultivariateHypergeometric

COEFFICIENTS = (1.0, -2.0, 0.5)
SCALE_SHARE = 0.1

Array = np.ndarray[Any, Any]
Function = Callable[[Any], Any]


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
    def functions(self) -> dict[str, Function]:
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


@functools.cache
def support(group_sizes: tuple[int, ...], total_count: int) -> Array:
    """All count vectors that sum to the total count, shape [points, groups]."""
    grid = itertools.product(*(range(size + 1) for size in group_sizes))
    return np.array([point for point in grid if sum(point) == total_count])


def fisher_probabilities(group_sizes: tuple[int, ...], total_count: int, log_weights: Array) -> Array:
    """Fisher's multivariate law (the paper's Eq. 1) at every point of ``support``."""
    points = support(group_sizes, total_count)
    ways = gammaln(np.array(group_sizes) + 1) - gammaln(points + 1) - gammaln(np.array(group_sizes) - points + 1)
    log_mass = points @ log_weights + ways.sum(axis=1)
    probability: Array = np.exp(log_mass - logsumexp(log_mass))
    return probability


class ExactGradient(NamedTuple):
    """Gradient of E[f(x)] with respect to the log weights.

    ``floor`` is a tenth of sd(f) * sqrt(sum of the variances of x): the gradient is Cov(f, x), which the
    Cauchy-Schwarz inequality bounds by ten times that. Errors are relative to the larger of the two, so that they stay
    meaningful where the gradient happens to be small.
    """

    gradient: Array
    floor: float

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.gradient))

    @property
    def scale(self) -> float:
        return max(self.norm, self.floor)


def exact_gradient(function: Function, problem: Problem) -> ExactGradient:
    """d E[f(x)] / d log omega = Cov(f(x), x) under Fisher's law."""
    points = support(problem.group_sizes, problem.total_count)
    probability = fisher_probabilities(problem.group_sizes, problem.total_count, np.log(problem.weights))
    values = function(points) - probability @ function(points)
    centred = points - probability @ points
    spread = math.sqrt(float(probability @ values**2) * float(probability @ (centred**2).sum(axis=1)))
    return ExactGradient(probability * values @ centred, SCALE_SHARE * spread)


def merged_gradient(function: Function, problem: Problem, orders: Sequence[Sequence[int]]) -> Array:
    """d E[f(x)] / d log omega under this library's merged law, averaged over class orders, by enumeration.

    The library's log-probabilities of that law are held against an enumeration of their own by the tests.
    """
    points = torch.from_numpy(support(problem.group_sizes, problem.total_count)).double()
    log_weights = torch.tensor(problem.weights, dtype=torch.float64).log().requires_grad_()
    urn: dict[str, Any] = {"total_count": problem.total_count, "group_sizes": problem.group_sizes}
    urn |= {"log_weights": log_weights, "conditionals": "merged"}
    laws = [MultivariateHypergeometric(group_order=tuple(order), **urn) for order in orders]
    expectation = torch.stack([law.log_prob(points).exp() @ function(points) for law in laws]).mean()
    gradient: Array = torch.autograd.grad(expectation, log_weights)[0].numpy()
    return gradient
