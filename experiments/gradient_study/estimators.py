"""Blocks of single-sample gradients from this project's library: straight-through and score function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

import mvhg
from experiments.gradient_study.problems import Problem

Block = dict[str, Tensor]
"""Function name -> gradients of single samples, shape [block, groups], float64."""


def straight_through(
    problem: Problem, temperature: float, conditionals: str, blocks: int, block: int, generator: Generator
) -> Iterator[Block]:
    """Straight-through gradients; every sample has log weights of its own, so the sum's gradient is one per sample."""
    log_weights = torch.tensor(problem.weights).log().expand(block, -1).clone().requires_grad_()
    for _ in range(blocks):
        law = mvhg.MultivariateHypergeometricStraightThrough(
            temperature,
            problem.total_count,
            torch.tensor(problem.group_sizes),
            log_weights=log_weights,
            conditionals=conditionals,
        )
        counts = law.rsample(generator=generator)  # [block, groups]
        gradients = {}
        for name, function in problem.functions.items():
            (gradient,) = torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
            gradients[name] = gradient.double()
        yield gradients


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
