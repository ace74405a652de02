"""Gradients of the exact law: finite differences, the exponential family's identities, and extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

from tests import oracle
from tests.mvhg.helpers import EXACT, HARD, assert_accurate, log_weights, make
from tests.urns import BY_NAME, EXTREME, LARGE, MEDIUM, SMALL, Urn

# gradcheck's step is 1e-4: its own error is then about 1e-8, and rounding of 1e-12 is divided by no more than that.
STEP = {"eps": 1e-4, "atol": 1e-6, "rtol": 1e-5}


@pytest.mark.parametrize("urn", SMALL, ids=str)
def test_first_derivatives_are_those_of_enumeration(urn: Urn) -> None:
    """Cumulants of the law, and of the law given a count; the first four groups of variances and covariances."""
    law, groups = oracle.enumerate_law(*urn.arguments), slice(min(urn.groups, 4))
    centred, every = law.support - law.mean, slice(None, None, max(1, len(law.support) // 50))
    given_a_count = [law.support[:, group] == count for group, count in np.argwhere(np.isfinite(law.log_marginals))]
    third = np.einsum("p,pi,pj,pk->ijk", law.pmf, centred[:, groups], centred[:, groups], centred)
    x, finite = torch.tensor(law.support[every], dtype=torch.float64), torch.tensor(np.isfinite(law.log_marginals))
    conditional = [special.softmax(law.log_pmf[at]) @ centred[at] for at in given_a_count]
    derivatives: list[tuple[Callable[[Any], torch.Tensor], Any]] = [
        (lambda d: d.log_prob(x), centred[every]),
        (lambda d: d.log_partition, law.mean),
        (lambda d: d.mean, law.covariance),
        (lambda d: d.marginal_log_probs()[finite], conditional),
        (lambda d: d.entropy(), -(law.pmf * law.log_pmf) @ centred),
        (lambda d: d.variance[groups], np.einsum("iik->ik", third)),
        (lambda d: d.covariance_matrix[groups, groups], third),
    ]
    jacobian = torch.autograd.functional.jacobian
    for function, expected in derivatives:
        found = jacobian(lambda w, f=function: f(make(urn, log_weights=w)), log_weights(urn))
        assert_accurate(found, expected, 1e-8)
    weights = log_weights(urn).exp()
    of_weights = jacobian(lambda w: make(urn, log_weights=None, weights=w).log_prob(x), weights)
    assert_accurate(of_weights * weights, centred[every], 1e-8)


def test_gradcheck_of_a_batch() -> None:
    point = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)

    def function(w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        d = EXACT(torch.tensor([5, 3]), torch.tensor([[3, 5, 4], [2, 2, 2]]), log_weights=w)
        marginals = d.marginal_log_probs()
        return d.log_partition, d.mean, marginals[torch.isfinite(marginals)]

    assert torch.autograd.gradcheck(function, point, **STEP)


@pytest.mark.parametrize("urn", MEDIUM + LARGE, ids=str)
def test_gradient_of_log_prob_is_counts_minus_mean(urn: Urn) -> None:
    law, point = oracle.tilted_law(*urn.arguments), log_weights(urn).requires_grad_()
    distribution = make(urn, log_weights=point)
    x = distribution.mode.detach()
    (gradient,) = torch.autograd.grad(distribution.log_prob(x), point)
    assert_accurate(gradient, x.numpy() - law.mean, 1e-9 * max(1.0, law.mean.max()))
    (gradient,) = torch.autograd.grad(make(urn, log_weights=point).log_partition, point)
    assert_accurate(gradient, law.mean)


@pytest.mark.parametrize("urn", MEDIUM + LARGE, ids=str)
def test_jacobian_of_the_mean_is_the_covariance(urn: Urn) -> None:
    law = oracle.tilted_law(*urn.arguments)
    rows = min(urn.groups, 4)
    jacobian = torch.autograd.functional.jacobian(lambda w: make(urn, log_weights=w).mean[:rows], log_weights(urn))
    assert_accurate(jacobian, law.covariance[:rows])


@pytest.mark.parametrize("urn", [urn for urn in MEDIUM if urn.name not in ("ten-thousand", "many-groups")], ids=str)
def test_gradient_of_marginals_is_the_shift_of_the_mean(urn: Urn) -> None:
    """d log P(x_i = k) / d log omega = E[x | x_i = k] - E[x], at the bulk and at both ends of the support."""
    law, point = oracle.tilted_law(*urn.arguments), log_weights(urn).requires_grad_()
    marginals = make(urn, log_weights=point).marginal_log_probs()
    group = int(np.argmax(law.mean))
    size, others = urn.group_sizes[group], [j for j in range(urn.groups) if j != group]
    sizes = [urn.group_sizes[j] for j in others]
    low, high = max(0, urn.total_count - sum(sizes)), min(size, urn.total_count)
    for count in sorted({low, (low + high) // 2, int(law.mean[group]), high}):
        expected = np.zeros(urn.groups)
        expected[group] = count
        expected[others] = oracle.TiltedLaw(urn.total_count - count, sizes, [urn.log_weights[j] for j in others]).mean
        (gradient,) = torch.autograd.grad(marginals[group, count], point, retain_graph=True)
        assert_accurate(gradient, expected - law.mean, 1e-8)


@pytest.mark.parametrize("urn", SMALL, ids=str)
def test_marginals_outside_the_support_do_not_spoil_gradients(urn: Urn) -> None:
    point = log_weights(urn).requires_grad_()
    marginals = make(urn, log_weights=point).marginal_log_probs()
    torch.where(torch.isfinite(marginals), marginals.exp(), 0.0).square().sum().backward()
    assert torch.isfinite(point.grad).all()


def test_log_prob_of_fractional_counts_is_the_extension() -> None:
    for name in ("middle-heavy", "twenty-each", "paper", "million-each"):
        urn = BY_NAME[name]
        law, distribution = oracle.tilted_law(*urn.arguments), make(urn, validate_args=False)
        x = torch.tensor(law.mean + np.array([[0.25, -0.5, 0.25], [-0.3, 0.1, 0.2]]))
        assert_accurate(distribution.log_prob(x), [law.log_prob(row) for row in x.tolist()], 1e-8)
    x = torch.tensor([1.3, 2.2, 1.5], dtype=torch.float64, requires_grad=True)
    distribution = make(BY_NAME["middle-heavy"], validate_args=False)
    directions = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: distribution.log_prob(x.detach() + t @ directions), point, **STEP)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("urn", LARGE + EXTREME, ids=str)
def test_values_and_gradients_are_finite_at_the_extremes(urn: Urn, dtype: torch.dtype) -> None:
    point = log_weights(urn, dtype).requires_grad_()
    distribution = make(urn, log_weights=point)
    values = [
        distribution.log_prob(distribution.mode.detach()),
        distribution.log_partition,
        distribution.mean.square().sum(),
    ]
    values.append(distribution.variance.sum())
    for value in values:
        (gradient,) = torch.autograd.grad(value, point)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "urn, temperature",
    [(urn, 0.1) for urn in LARGE + EXTREME]
    # above a temperature of 1 the logits are exact in the tails, which costs seconds at a million elements
    + [(urn, 10.0) for urn in (BY_NAME["million-extreme"], BY_NAME["million-two-extreme"], *EXTREME[:4])],
    ids=str,
)
def test_straight_through_draws_at_the_extremes(urn: Urn, temperature: float) -> None:
    point = log_weights(urn).requires_grad_()
    kind = HARD
    counts = make(urn, log_weights=point, kind=kind, temperature=temperature).rsample(
        (2,), generator=torch.Generator().manual_seed(1)
    )
    assert (counts.sum(-1) == urn.total_count).all()
    (counts * torch.arange(1.0, urn.groups + 1.0)).sum().backward()
    assert torch.isfinite(point.grad).all()
