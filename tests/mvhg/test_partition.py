"""``RandomPartition``: draws, probabilities by enumeration, gradients against a dense relaxed sort, memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import mvhg
from mvhg._assignment import assign
from mvhg._plackett_luce import log_partition_probability
from tests.mvhg.helpers import (
    FAILURE_RATE,
    assert_accurate,
    chi_square_p_value,
    compiles_whole,
    generator,
    partition_example,
)


def all_assignments(groups: int, elements: int) -> Tensor:
    """[groups ** elements, groups, elements]."""
    every = torch.tensor(list(itertools.product(range(groups), repeat=elements)))
    return torch.nn.functional.one_hot(every, groups).transpose(1, 2).double()


def enumerated(log_scores: list[float], log_weights: list[float], assignment: Tensor) -> tuple[float, float, float]:
    """log P, and log P of the counts with the most and the least probable order, by listing every order."""
    groups, elements = assignment.shape
    group = assignment.argmax(0).tolist()
    scores = [math.exp(s) for s in log_scores]
    totals = []
    for order in itertools.permutations(range(elements)):
        if all(group[a] <= group[b] for a, b in itertools.pairwise(order)):
            totals.append(math.prod(scores[j] / sum(scores[k] for k in order[place:]) for place, j in enumerate(order)))
    mass, normaliser = 0.0, 0.0
    counts = assignment.sum(1).int().tolist()
    for x in itertools.product(range(elements + 1), repeat=groups):
        if sum(x) == elements:
            each = math.prod(math.comb(elements, k) * math.exp(k * w) for k, w in zip(x, log_weights, strict=True))
            normaliser += each
            mass += each if list(x) == counts else 0.0
    sizes = math.log(mass / normaliser)
    return sizes + math.log(sum(totals)), sizes + math.log(max(totals)), sizes + math.log(min(totals))


@pytest.mark.parametrize(
    ("elements", "groups", "spread"), [(5, 3, 1.0), (6, 2, 0.1), (4, 4, 3.0), (5, 2, 20.0), (3, 1, 1.0), (1, 3, 1.0)]
)
def test_log_probabilities_are_those_of_enumeration(elements: int, groups: int, spread: float) -> None:
    scores, weights = partition_example(elements, groups, spread=spread)
    partition = mvhg.RandomPartition(0.5, scores, weights)
    every = all_assignments(groups, elements)
    found, (lower, upper) = partition.log_prob(every), partition.log_prob_bounds(every)
    assert_accurate(found.exp().sum(), 1.0)
    assert (lower <= found + 1e-12).all() and (found <= upper + 1e-12).all()
    for assignment, value, low, high in zip(every[::7], found[::7], lower[::7], upper[::7], strict=True):
        exact, most, least = enumerated(scores.tolist(), weights.tolist(), assignment)
        orders = float(torch.lgamma(assignment.sum(1) + 1).sum())
        assert_accurate(value, exact)
        assert_accurate(high, most + orders)
        assert_accurate(low, max(most, least + orders))


def test_bounds_meet_where_there_is_one_order_or_no_score() -> None:
    single = mvhg.RandomPartition(0.5, *partition_example(3, 3))
    alike = mvhg.RandomPartition(0.5, torch.zeros(6, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    cases = ((single, torch.eye(3, dtype=torch.float64)[[2, 0, 1]]), (alike, all_assignments(2, 6)))
    for partition, value in cases:
        lower, upper = partition.log_prob_bounds(value)
        assert_accurate(lower, partition.log_prob(value).detach().numpy())
        assert_accurate(upper, lower.numpy())


@pytest.mark.parametrize(("elements", "spread"), [(40, 0.2), (40, 12.0), (2000, 1.0)])
def test_long_integrals_agree_with_a_recursion(elements: int, spread: float) -> None:
    """P(S comes first) is sum_{j in S} w_j / (w(S) + W) P(S - j comes first); of equal scores, 1 / (N choose |S|)."""
    few = 8
    scores = spread * torch.randn(elements, dtype=torch.float64, generator=generator(3))
    if elements > 100:
        scores = scores[:1].expand(elements)
        few = elements // 2
    group = (torch.arange(elements) >= few).long()
    found = log_partition_probability(scores[None], group[None], torch.tensor([[few, elements - few]]))
    if elements > 100:
        expected = -(math.lgamma(elements + 1) - math.lgamma(few + 1) - math.lgamma(elements - few + 1))
    else:
        weights = np.exp(scores.numpy())
        rest, first = weights[few:].sum(), {0: 1.0}
        for subset in range(1, 1 << few):
            members = [j for j in range(few) if subset >> j & 1]
            total = sum(weights[j] for j in members) + rest
            first[subset] = sum(weights[j] / total * first[subset ^ (1 << j)] for j in members)
        expected = math.log(first[(1 << few) - 1])
    assert_accurate(found[0], expected)


def test_draws_follow_the_law() -> None:
    """Fails by chance once in 1e5 seeds; a law that differs by 0.02 in sqrt(sum (q - p)^2 / p) is found."""
    scores, weights = partition_example(4, 3)
    partition = mvhg.RandomPartition(0.5, scores, weights)
    every = all_assignments(3, 4)
    drawn = partition.rsample((100_000,), generator=generator(11))
    assert drawn.shape == (100_000, 3, 4) and drawn.dtype == torch.float64
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(-2) == 1).all()
    p_value = chi_square_p_value(
        drawn.detach().argmax(1).numpy(), every.argmax(1).numpy(), partition.log_prob(every).exp().numpy()
    )
    assert p_value > FAILURE_RATE


def test_two_groups_select_the_highest_where_the_number_is_given() -> None:
    scores = torch.tensor([0.0, 300.0, 100.0, 200.0, -100.0])
    partition = mvhg.RandomPartition(0.5, scores, torch.zeros(2), group_sizes=[2, 3])
    assert partition.rsample((50,))[:, 0].eq(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])).all()
    value = partition.rsample()
    torch.testing.assert_close(partition.log_prob(value), torch.tensor(0.0), atol=1e-6, rtol=0)


def dense(scores: Tensor, counts: list[int], temperature: float, relaxation: str) -> Tensor:
    """The relaxed assignment [c, N] with the whole permutation (Grover et al. 2019, Eq. 5), for autograd."""
    n = len(scores)
    distances = (scores[:, None] - scores[None]).abs().sum(1)
    scaling = n + 1 - 2 * torch.arange(1, n + 1, dtype=scores.dtype)
    permutation = ((scaling[:, None] * scores - distances) / temperature).softmax(-1)
    groups = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    soft = torch.nn.functional.one_hot(groups, len(counts)).T.to(scores) @ permutation
    return soft / soft.sum(0) if relaxation == "normalised" else soft.clamp(max=1)


@pytest.mark.parametrize("block", [1, 1 << 18])
@pytest.mark.parametrize("relaxation", ["normalised", "paper"])
def test_gradients_in_the_scores_are_the_relaxed_sorts(
    relaxation: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvhg._assignment._LEAST_BLOCK", block)
    counts, temperature = [[2, 0, 4, 1], [1, 3, 0, 3]], 0.8
    scores = torch.randn(2, 7, dtype=torch.float64, generator=generator(1)).requires_grad_()
    direction = torch.randn(2, 4, 7, dtype=torch.float64, generator=generator(2))
    mask = (torch.arange(7) < torch.tensor(counts).unsqueeze(-1)).double()
    assignment = assign(scores, torch.tensor(counts), mask, temperature, relaxation)
    ranks = scores.detach().argsort(descending=True).argsort()
    for row in range(2):
        expected = torch.repeat_interleave(torch.arange(4), torch.tensor(counts[row]))[ranks[row]]
        assert torch.equal(assignment[row].argmax(0), expected)
    [found] = torch.autograd.grad((assignment * direction).sum(), scores)
    soft = torch.stack([dense(s, c, temperature, relaxation) for s, c in zip(scores, counts, strict=True)])
    [expected] = torch.autograd.grad((soft * direction).sum(), scores)
    torch.testing.assert_close(found, expected)


def test_a_count_moves_the_end_of_its_group_and_of_all_later_ones() -> None:
    """A mask's derivative in its place x_k or x_k - 1 is the assignment's change when that count changes by one."""
    counts = torch.tensor([[2, 1, 3]])
    scores = torch.arange(6, 0, -1, dtype=torch.float64).unsqueeze(0)  # element j has rank j
    direction = torch.randn(1, 3, 6, dtype=torch.float64, generator=generator(4))
    mask = (torch.arange(6) < counts.unsqueeze(-1)).double().requires_grad_()
    result = assign(scores, counts, mask, 0.5, "normalised")
    [gradient] = torch.autograd.grad((result * direction).sum(), mask)
    base = (result.detach() * direction).sum()
    for k, change in itertools.product(range(2), (1, -1)):
        moved = counts.clone()
        moved[0, k] += change
        moved[0, 2] -= change
        value = (assign(scores, moved, mask.detach(), 0.5, "normalised") * direction).sum()
        place = int(counts[0, k]) - (change == -1)
        torch.testing.assert_close(change * gradient[0, k, place], value - base)
    assert (gradient[0, 2] == 0).all()


@pytest.mark.parametrize("relaxation", ["normalised", "paper"])
def test_straight_through_gradients_are_close_to_the_exact_ones(relaxation: str) -> None:
    """At temperature 0.5, by 100,000 draws, the error of the gradient's mean (measured: 6 to 16 % of its norm)."""
    scores, weights = (value.requires_grad_() for value in partition_example(5, 3, seed=2))
    every = all_assignments(3, 5)
    reward = torch.randn(3, 5, dtype=torch.float64, generator=generator(5))
    partition = mvhg.RandomPartition(0.5, scores, weights, relaxation=relaxation)
    exact = (partition.log_prob(every).exp() * (every * reward).sum((1, 2))).sum()
    exact_gradients = torch.autograd.grad(exact, (scores, weights))
    drawn = partition.rsample((100_000,), generator=generator(6))
    gradients = torch.autograd.grad((drawn * reward).sum((1, 2)).mean(), (scores, weights))
    for found, expected in zip(gradients, exact_gradients, strict=True):
        assert float((found - expected).norm() / expected.norm()) < 0.2


def test_log_probabilities_have_the_right_gradients() -> None:
    scores, weights = (value.requires_grad_() for value in partition_example(7, 3))
    value = mvhg.RandomPartition(0.5, scores, weights).sample((4,), generator=generator(2))

    def log_prob(scores: Tensor, weights: Tensor) -> Tensor:
        return mvhg.RandomPartition(0.5, scores, weights).log_prob(value)

    def bounds(scores: Tensor, weights: Tensor) -> Any:
        return tuple(mvhg.RandomPartition(0.5, scores, weights).log_prob_bounds(value))

    assert torch.autograd.gradcheck(log_prob, (scores, weights))
    assert torch.autograd.gradcheck(bounds, (scores, weights))


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("elements", [500, 1000])
def test_memory_goes_with_the_result(elements: int) -> None:
    scores = torch.randn(16, elements, generator=generator(0)).requires_grad_()
    weights = torch.zeros(10, requires_grad=True)
    with _Largest() as seen:
        drawn = mvhg.RandomPartition(0.5, scores, weights).rsample()
        (drawn * torch.arange(10.0).unsqueeze(-1)).sum().backward()
    assert torch.isfinite(scores.grad).all() and torch.isfinite(weights.grad).all()
    assert seen.largest <= max(
        4 * drawn.numel(), 1 << 18
    )  # elements squared a draw would be 25 or 100 times the result


def test_batches_broadcast_and_expand() -> None:
    scores, weights = torch.zeros(4, 1, 6), torch.zeros(3, 2)
    partition = mvhg.RandomPartition(0.5, scores, weights)
    assert partition.batch_shape == (4, 3) and partition.event_shape == (2, 6)
    drawn = partition.rsample((5,))
    assert drawn.shape == (5, 4, 3, 2, 6) and drawn.dtype == torch.float32
    assert partition.log_prob(drawn).shape == (5, 4, 3)
    assert partition.log_prob(drawn[0, 0, 0]).shape == (4, 3)
    wide = partition.expand((2, 4, 3))
    assert wide.rsample().shape == (2, 4, 3, 2, 6) and wide.support.check(wide.sample()).all()
    assert torch.equal(partition.sample(generator=generator(1)), partition.sample(generator=generator(1)))
    assert partition.counts.batch_shape == (4, 3)


def by_noise(scores: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
    return mvhg.RandomPartition(0.5, scores, weights, validate_args=False).rsample(noise=noise)


def some_noise(number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, weights, uniform numbers for so many draws, and a direction of gradients."""
    scores, weights = partition_example(6, 3)
    shape = mvhg.RandomPartition(0.5, scores.expand(number, 6), weights).noise_shape()
    noise = torch.rand(shape, dtype=torch.float64, generator=generator(8))
    return scores, weights, noise, torch.randn(3, 6, dtype=torch.float64, generator=generator(7))


def test_draws_by_noise_are_the_same_mapped_and_differentiated_by_functions() -> None:
    scores, weights, noise, direction = some_noise(4)

    def value(scores: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
        partition = mvhg.RandomPartition(0.5, scores, weights)
        value = torch.eye(3)[[0, 1, 1, 2, 0, 1]].T
        return (by_noise(scores, weights, noise) * direction).sum() + partition.log_prob(value)

    leaves = scores.clone().requires_grad_(), weights.clone().requires_grad_()
    expected = torch.stack([by_noise(scores, weights, row) for row in noise])
    gradients = [torch.autograd.grad(value(*leaves, row), leaves) for row in noise]
    torch.testing.assert_close(by_noise(scores.expand(4, 6), weights, noise), expected)
    torch.testing.assert_close(torch.func.vmap(by_noise, (None, None, 0))(scores, weights, noise), expected)
    mapped = torch.func.vmap(torch.func.grad(value, (0, 1)), (None, None, 0))(scores, weights, noise)
    for found, one in zip(mapped, zip(*gradients, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(one))


@pytest.mark.filterwarnings("default")  # the compiler's own warnings are not the library's
@compiles_whole
def test_draws_by_noise_compile_to_one_graph() -> None:
    scores, weights, noise, direction = some_noise(1)
    results = []
    for function in (by_noise, torch.compile(by_noise, fullgraph=True, backend="aot_eager")):
        leaves = scores.clone().requires_grad_(), weights.clone().requires_grad_()
        drawn = function(*leaves, noise[0])
        results.append((drawn.detach(), *torch.autograd.grad((drawn * direction).sum(), leaves)))
    torch.compiler.reset()
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
