"""Blocks of single-sample gradients: straight-through (ours, the authors') and score function, and their moments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

import mvhg
from experiments.gradient_study.problems import Problem

Block = dict[str, Tensor]
"""Function name -> gradients of single samples, shape [block, groups], float64."""


def through_draws(
    problem: Problem, law: Callable[..., Any], blocks: int, block: int, generator: Generator
) -> Iterator[Block]:
    """Gradients through the draws of a law of this project's library, made by ``law(log_weights=...)``."""
    log_weights = _log_weights(problem, block)
    for _ in range(blocks):
        yield _gradients(problem, law(log_weights=log_weights).rsample(generator=generator), log_weights)


def authors(
    problem: Problem, temperature: float, sampler: Callable[..., Any], blocks: int, block: int
) -> Iterator[Block]:
    """Straight-through gradients of the authors' code; draws from the global random states of torch and NumPy.

    Their sampler draws one class order per call, from NumPy's global state, and its gradients depend on the order. So a
    block has one call in each order, equally many samples each: the same mean as with random orders, less noise.
    """
    seeds = seeds_of_all_orders(len(problem.weights))
    samples = block // len(seeds)
    log_weights = _log_weights(problem, samples)
    total_count = torch.full((samples, 1), problem.total_count)
    for _ in range(blocks):
        parts = []
        for seed in seeds:
            np.random.seed(seed)  # noqa: NPY002
            sizes = torch.tensor(problem.group_sizes)
            _, groups, _, _ = sampler(sizes, total_count, log_weights, temperature, True, True)
            counts = torch.cat([group.reshape(samples, 1) for group in groups], dim=1)
            parts.append(_gradients(problem, counts, log_weights))
        yield {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def seeds_of_all_orders(groups: int) -> list[int]:
    """Seeds of NumPy's global state after which its first permutation is each of all orders, once."""
    found: dict[tuple[int, ...], int] = {}
    seeds = itertools.count()
    while len(found) < math.factorial(groups):
        seed = next(seeds)
        found.setdefault(tuple(np.random.RandomState(seed).permutation(groups).tolist()), seed)
    return list(found.values())


def score_function(problem: Problem, blocks: int, block: int, generator: Generator) -> Iterator[Block]:
    """Score-function gradients (f(x) - b) (x - E[x]); E[x] is exact, b is the mean of f over the block's other samples.

    Unbiased, and there is no temperature.
    """
    law = mvhg.MultivariateHypergeometric(
        problem.total_count, torch.tensor(problem.group_sizes), torch.tensor(problem.weights, dtype=torch.float64)
    )
    mean = law.mean
    for _ in range(blocks):
        counts = law.sample((block,), generator=generator)  # [block, groups]
        gradients = {}
        for name, function in problem.functions.items():
            values: Tensor = function(counts)
            baseline = (values.sum() - values) / (block - 1)
            gradients[name] = (values - baseline).unsqueeze(-1) * (counts - mean)
        yield gradients


def _log_weights(problem: Problem, samples: int) -> Tensor:
    """Log weights of its own for every sample, [samples, groups]: the gradient of a sum is one per sample."""
    return torch.tensor(problem.weights).log().expand(samples, -1).clone().requires_grad_()


def _gradients(problem: Problem, counts: Tensor, log_weights: Tensor) -> Block:
    gradients = {}
    for name, function in problem.functions.items():
        (gradient,) = torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
        gradients[name] = gradient.double()
    return gradients


class Moments(NamedTuple):
    """Means of the gradients of each block, and of their squares, shape [blocks, groups]."""

    means: Tensor
    squares: Tensor

    @property
    def mean(self) -> Tensor:
        return self.means.mean(0)

    @property
    def standard_error(self) -> float:
        """Of the mean vector: root of the summed variances. From the blocks' means, as samples may share an order."""
        return float((self.means.var(0).sum() / len(self.means)).sqrt())

    @property
    def standard_deviation(self) -> float:
        """Of one sample's gradient vector: root of the summed variances."""
        return float((self.squares.mean(0) - self.mean.square()).sum().clamp(min=0).sqrt())


def collect(blocks: Iterator[Block]) -> dict[str, Moments]:
    """Moments of each function's gradients over all blocks."""
    found = [{name: (part.mean(0), part.square().mean(0)) for name, part in block.items()} for block in blocks]
    return {name: Moments(*(torch.stack(parts) for parts in zip(*(one[name] for one in found)))) for name in found[0]}
