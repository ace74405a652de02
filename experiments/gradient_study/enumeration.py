"""Exact expectations and gradients over the whole support, in NumPy and without this project's library."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from experiments.gradient_study.problems import Problem

DIFFERENCE = 1e-4  # step of the central differences for the merged law; their error is of the order of its square
SCALE_SHARE = 0.1

Array = np.ndarray[Any, Any]
Function = Callable[[Any], Any]


@functools.cache
def support(group_sizes: tuple[int, ...], total_count: int) -> Array:
    """All count vectors that sum to the total count, shape [points, groups]."""
    grid = itertools.product(*(range(size + 1) for size in group_sizes))
    return np.array([point for point in grid if sum(point) == total_count])


def _log_choose(size: int) -> Array:
    return np.array([math.log(math.comb(size, k)) for k in range(size + 1)])


def fisher_probabilities(group_sizes: tuple[int, ...], total_count: int, log_weights: Array) -> Array:
    """Fisher's multivariate law (the paper's Eq. 1) at every point of ``support``."""
    points = support(group_sizes, total_count)
    log_mass = points @ log_weights + sum(_log_choose(size)[points[:, i]] for i, size in enumerate(group_sizes))
    probability: Array = np.exp(log_mass - logsumexp(log_mass))
    return probability


def merged_probabilities(
    group_sizes: tuple[int, ...], total_count: int, log_weights: Array, order: Sequence[int]
) -> Array:
    """The paper's product of merged univariate conditionals (Eqs. 3-6) in one order, at every point of ``support``."""
    points = support(group_sizes, total_count)
    log_mass = np.zeros(len(points))
    remaining = np.full(len(points), total_count)
    for position, group in enumerate(order[:-1]):
        rest = list(order[position + 1 :])
        rest_sizes = np.array([group_sizes[i] for i in rest])
        rest_size = int(rest_sizes.sum())
        log_rest_weight = logsumexp(log_weights[rest], b=rest_sizes / rest_size)
        x = np.arange(group_sizes[group] + 1)
        others = remaining[:, None] - x  # [points, size + 1]
        possible = (others >= 0) & (others <= rest_size)
        logits = _log_choose(group_sizes[group]) + x * log_weights[group] + others * log_rest_weight
        logits = np.where(possible, logits + _log_choose(rest_size)[np.clip(others, 0, rest_size)], -np.inf)
        chosen = np.take_along_axis(logits, points[:, [group]], axis=1)[:, 0]
        log_mass += chosen - logsumexp(logits, axis=1)
        remaining = remaining - points[:, group]
    return np.exp(log_mass)


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
    """d E[f(x)] / d log omega under the merged law, averaged over class orders, by central differences."""
    sizes, total_count, log_weights = problem.group_sizes, problem.total_count, np.log(problem.weights)
    values = function(support(sizes, total_count))

    def expectation(shifted: Array) -> float:
        laws = [merged_probabilities(sizes, total_count, shifted, order) for order in orders]
        return float(np.mean(laws, axis=0) @ values)

    steps = DIFFERENCE * np.eye(len(sizes))
    differences = [expectation(log_weights + step) - expectation(log_weights - step) for step in steps]
    return np.array(differences) / (2 * DIFFERENCE)
