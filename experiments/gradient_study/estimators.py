"""Blocks of single-sample gradients from this project's library: straight-through and score function."""

from collections.abc import Iterator

import torch

import mvhg
from experiments.gradient_study.problems import Problem, functions

Block = dict[str, torch.Tensor]
"""Function name -> gradients of single samples, shape [block, groups], float64."""


def straight_through(
    problem: Problem, temperature: float, conditionals: str, blocks: int, block: int, generator: torch.Generator
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
        for name, function in functions(problem.corner).items():
            (gradient,) = torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
            gradients[name] = gradient.double()
        yield gradients


def score_function(problem: Problem, blocks: int, block: int, generator: torch.Generator) -> Iterator[Block]:
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
        for name, function in functions(problem.corner).items():
            values: torch.Tensor = function(counts)
            baseline = (values.sum() - values) / (block - 1)
            gradients[name] = (values - baseline).unsqueeze(-1) * (counts - mean)
        yield gradients


class Moments:
    """Mean and spread of single-sample gradients, collected block by block."""

    def __init__(self) -> None:
        self.means: list[torch.Tensor] = []
        self.squares: list[torch.Tensor] = []

    def add(self, gradients: torch.Tensor) -> None:
        """Take in one block, shape [block, groups]."""
        self.means.append(gradients.mean(0))
        self.squares.append(gradients.square().mean(0))

    @property
    def mean(self) -> torch.Tensor:
        return torch.stack(self.means).mean(0)

    @property
    def standard_error(self) -> float:
        """Of the mean vector: root of the summed variances. From the blocks' means, as samples may share an order."""
        means = torch.stack(self.means)
        return float((means.var(0).sum() / len(means)).sqrt())

    @property
    def standard_deviation(self) -> float:
        """Of one sample's gradient vector: root of the summed variances."""
        return float((torch.stack(self.squares).mean(0) - self.mean.square()).sum().clamp(min=0).sqrt())


def collect(blocks: Iterator[Block]) -> dict[str, Moments]:
    """Moments of each function's gradients over all blocks."""
    moments: dict[str, Moments] = {}
    for gradients in blocks:
        for name, gradient in gradients.items():
            moments.setdefault(name, Moments()).add(gradient)
    return moments
