"""``RandomPartition``: what it takes and refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import mvhg
from tests.mvhg.helpers import generator, partition_example

S, W = torch.zeros(4), torch.zeros(2)


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
    scores, weights = (value.requires_grad_() for value in partition_example(5, 2))
    partition = mvhg.RandomPartition(0.5, scores, weights)
    for value in (partition.rsample()[0, :2].sum(), partition.log_prob(partition.sample())):
        [first] = torch.autograd.grad(value, scores, create_graph=True)
        with pytest.raises(RuntimeError, match="only once"):
            torch.autograd.grad((first * scores).sum(), scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mvhg.RandomPartition(0.5, torch.tensor(1.0), W), "log_scores must be a tensor with entries"),
        (lambda: mvhg.RandomPartition(0.5, S.half(), W), "log_scores must be float32 or float64, got torch.float16"),
        (lambda: mvhg.RandomPartition(0.5, S / 0, W), "log_scores must be finite"),
        (lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=[4, 4, 4]), "got 3 for 2 log_weights"),
        (
            lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=[1, 2]),
            "group_sizes must hold at least the 4 elements of",
        ),
        (lambda: mvhg.RandomPartition(0.5, S, W, group_sizes=[-1, 2]), "group_sizes must be whole numbers from 0"),
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


@pytest.mark.parametrize("relaxation", ["normalised", "paper"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_temperature_of_any_type(kind: torch.dtype, relaxation: str) -> None:
    made = []
    for temperature in (torch.tensor(0.5, dtype=kind), 0.5):
        scores = torch.linspace(-1, 1, 5).requires_grad_()
        partition = mvhg.RandomPartition(temperature, scores, torch.zeros(2), relaxation=relaxation)
        made.append(torch.autograd.grad(partition.rsample(generator=generator(3))[0, :2].sum(), scores)[0])
    torch.testing.assert_close(*made)


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
