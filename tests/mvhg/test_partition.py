"""``RandomPartition``: draws, probabilities by enumeration, gradients against a dense relaxed sort, memory."""

from __future__ import annotations

import copy
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
from tests.mvhg.helpers import FAILURE_RATE, assert_accurate, chi_square_p_value, compiles_whole, generator


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


def example(elements: int, groups: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    g = generator(seed)
    scores = spread * torch.randn(elements, dtype=torch.float64, generator=g)
    return scores, torch.randn(groups, dtype=torch.float64, generator=g)


@pytest.mark.parametrize(
    ("elements", "groups", "spread"), [(5, 3, 1.0), (6, 2, 0.1), (4, 4, 3.0), (5, 2, 20.0), (3, 1, 1.0), (1, 3, 1.0)]
)
def test_log_probabilities_are_those_of_enumeration(elements: int, groups: int, spread: float) -> None:
    scores, weights = example(elements, groups, spread=spread)
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
    single = mvhg.RandomPartition(0.5, *example(3, 3))
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
    scores, weights = example(4, 3)
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
    scores, weights = (value.requires_grad_() for value in example(5, 3, seed=2))
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
    scores, weights = (value.requires_grad_() for value in example(7, 3))
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
    scores, weights = example(6, 3)
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


def test_empty_batches_single_groups_and_temperatures_on_a_device() -> None:
    for shape, samples in (((0,), (2,)), ((3,), (0,))):
        scores, weights = torch.zeros(*shape, 4, requires_grad=True), torch.zeros(3, requires_grad=True)
        partition = mvhg.RandomPartition(torch.tensor(0.5), scores, weights)
        drawn = partition.rsample(samples)
        assert drawn.shape == (*samples, *shape, 3, 4)
        drawn.sum().backward()
        assert weights.grad.eq(0).all()
        assert partition.log_prob(drawn).shape == (*samples, *shape)
    single = mvhg.RandomPartition(0.5, torch.zeros(4), torch.zeros(1), group_sizes=torch.tensor([4]))
    assert single.group_sizes == (4,) and single.rsample().eq(1).all()
    assert abs(float(single.log_prob(torch.ones(1, 4, dtype=torch.bool)))) < 1e-6
    on_meta = torch.zeros(2, 6, device="meta"), torch.zeros(3, device="meta"), torch.tensor(0.5, device="meta")
    partition = mvhg.RandomPartition(on_meta[2], *on_meta[:2], validate_args=False)  # nothing is read back
    assert partition.rsample().shape == (2, 3, 6)


def test_second_derivatives_are_refused() -> None:
    scores, weights = (value.requires_grad_() for value in example(5, 2))
    partition = mvhg.RandomPartition(0.5, scores, weights)
    for value in (partition.rsample()[0, :2].sum(), partition.log_prob(partition.sample())):
        [first] = torch.autograd.grad(value, scores, create_graph=True)
        with pytest.raises(RuntimeError, match="only once"):
            torch.autograd.grad((first * scores).sum(), scores)


S, W = torch.zeros(4), torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mvhg.RandomPartition(0.5, torch.tensor(1.0), W), "log_scores must be a tensor with entries"),
        (lambda: mvhg.RandomPartition(0.5, S.half(), W), "log_scores must be float32 or float64, got torch.float16"),
        (lambda: mvhg.RandomPartition(0.5, S / 0, W), "log_scores must be finite"),
        (lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=[4, 4, 4]), "got 3 for 2 log_weights"),
        (lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=[1, 2]), "total_count must not exceed"),
        (lambda: mvhg.RandomPartition(0.5, S, W, relaxation="soft"), "relaxation must be one of normalised, paper"),
        (lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=4), "group_sizes must be a sequence of whole numbers"),
        (
            lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=torch.full((2, 2), 4)),
            "group_sizes must be a sequence of whole numbers",
        ),
        (lambda: mvhg.RandomPartition(0.5, S, W).log_prob([[1] * 4, [0] * 4]), "value must be a tensor .*, got list"),
        (lambda: mvhg.RandomPartition(0.5, S, W).log_prob(torch.zeros(3, 4)), r"assignments .*2, 4\], got .*3, 4"),
        (lambda: mvhg.RandomPartition(0.0, S, W), "temperature must be positive"),
        (lambda: mvhg.RandomPartition(torch.ones(2), S.expand(2, 4), W), r"must be one number, got .* shape \(2,\)"),
        (lambda: mvhg.RandomPartition(0.5, S.expand(2, 4), W.expand(3, 2)), "do not broadcast in all but their last"),
        (lambda: mvhg.RandomPartition(0.5, S, W).log_prob(torch.zeros(2, 5)), r"assignments \[..., 2, 4\], got .*2, 5"),
        (lambda: mvhg.RandomPartition(0.5, S, W).log_prob(torch.zeros(2, 4)), "value must hold one 1 in each column"),
        (
            lambda: mvhg.RandomPartition(0.5, S.expand(3, 4), W).log_prob(torch.zeros(2, 2, 4)),
            "does not broadcast with batch shape",
        ),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.int8, torch.uint8, torch.uint16, torch.uint64, torch.bfloat16], ids=str
)
def test_assignments_of_any_type(kind: torch.dtype) -> None:
    partition = mvhg.RandomPartition(0.5, torch.zeros(3), torch.zeros(2))
    value = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert torch.equal(partition.log_prob(value.to(kind)), partition.log_prob(value))
    assert partition.log_prob_bounds(value.to(kind)) == partition.log_prob_bounds(value)
    with pytest.raises(ValueError, match="value must be a tensor of assignments .*, got dtype torch.complex64"):
        partition.log_prob(value.to(torch.complex64))


def test_autocast_changes_no_gradient() -> None:
    gradients = []
    for enabled in (False, True):
        leaves = torch.linspace(-1, 1, 9).requires_grad_(), torch.linspace(0, 1, 3).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn = mvhg.RandomPartition(0.7, *leaves).rsample((4,), generator=generator(1))
            gradients.append(torch.autograd.grad((drawn * torch.arange(27.0).reshape(3, 9)).sum(), leaves))
    for plain, mixed in zip(*gradients, strict=True):
        assert torch.equal(plain, mixed)


@pytest.mark.parametrize("temperature", [1e-307, 1e-39, 0.5, 1e39, 1e307])
def test_a_temperature_may_be_given_in_any_way(temperature: float) -> None:
    results = []
    for given in (
        temperature,
        [temperature],
        np.array([temperature]),
        torch.tensor([[temperature]], dtype=torch.float64),
    ):
        leaves = torch.linspace(-1, 1, 6).requires_grad_(), torch.zeros(1, 3, requires_grad=True)
        drawn = mvhg.RandomPartition(given, *leaves).rsample((2,), generator=generator(1))
        results.append(torch.autograd.grad((drawn * torch.arange(18.0).reshape(3, 6)).sum(), leaves))
    for gradients in results:
        for one, first in zip(gradients, results[0], strict=True):
            assert torch.isfinite(one).all() and torch.equal(one, first)


def test_it_follows_the_librarys_default_of_validation_and_can_be_copied() -> None:
    """Also with parameters, of which the largest batch is the batch."""
    scores, weights = torch.nn.Parameter(torch.zeros(2, 4)), torch.nn.Parameter(torch.zeros(2, 3))
    copied = copy.deepcopy(mvhg.RandomPartition(0.5, scores, weights))
    assert copied.log_scores.is_leaf and copied.sample().shape == (2, 3, 4)
    mvhg.MultivariateHypergeometric.set_default_validate_args(False)
    try:
        mvhg.RandomPartition(0.5, scores, weights).log_prob(torch.ones(3, 4))
    finally:
        mvhg.MultivariateHypergeometric._validates_by_default = None
    with pytest.raises(ValueError, match="value must hold one 1 in each column"):
        mvhg.RandomPartition(0.5, scores, weights).log_prob(torch.ones(3, 4))
