"""Divergences and averages of normal posteriors against NumPy, quadrature and their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from experiments.weak_supervision.group_vae import Average, Divergence, average, divergence, kl_to_prior
from tests.experiments.weak_supervision_fits import make_posteriors
from tests.experiments.weak_supervision_reference import normal_divergence, symmetric_divergence

AVERAGES: tuple[Average, ...] = ("arithmetic", "product_of_experts")
DIVERGENCES: tuple[Divergence, ...] = ("symmetric", "one_sided")
MEAN, LOG_VARIANCE = make_posteriors(20, 4, dtype=torch.float64)
VARIANCE = LOG_VARIANCE.exp().numpy()


def averaged(mean: Tensor, log_variance: Tensor, kind: Average) -> tuple[Tensor, Tensor]:
    mean, log_variance = average(torch.stack([mean, log_variance]), kind).unbind(0)
    return mean, log_variance.exp()


def normal(view: int) -> Normal:
    return Normal(MEAN[view], (0.5 * LOG_VARIANCE[view]).exp())


def test_one_sided_divergence_is_that_of_the_first_view_from_the_second() -> None:
    result = divergence(MEAN, LOG_VARIANCE, "one_sided")
    expected = normal_divergence(MEAN[0].numpy(), VARIANCE[0], MEAN[1].numpy(), VARIANCE[1])
    np.testing.assert_allclose(result, expected, rtol=1e-10)
    torch.testing.assert_close(result, kl_divergence(normal(0), normal(1)))
    swapped = divergence(MEAN.flip(0), LOG_VARIANCE.flip(0), "one_sided")
    assert (swapped - result).abs().min() > 1e-3


def test_symmetric_divergence_is_the_mean_of_both_directions() -> None:
    result = divergence(MEAN, LOG_VARIANCE, "symmetric")
    np.testing.assert_allclose(result, symmetric_divergence(MEAN.numpy(), VARIANCE), rtol=1e-10)
    torch.testing.assert_close(result, divergence(MEAN.flip(0), LOG_VARIANCE.flip(0), "symmetric"))


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_divergence_vanishes_for_equal_views_and_only_there(kind: str) -> None:
    mean, log_variance = (values[:1].expand(2, -1, -1).float() for values in (MEAN, LOG_VARIANCE))
    assert (divergence(mean, log_variance, kind) == 0).all()
    # Rounding in single precision must not make it negative.
    nearly = log_variance * torch.tensor([1, 1 + 1e-6])[:, None, None]
    assert (divergence(mean, nearly, kind) >= 0).all()
    shifted = mean + torch.tensor([0.0, 0.1])[:, None, None]
    # Equal variances: the squared distance over twice the variance, in both directions.
    torch.testing.assert_close(
        divergence(shifted, log_variance, kind), 0.005 / log_variance[0].exp(), rtol=1e-3, atol=1e-6
    )


def test_divergence_from_the_prior() -> None:
    expected = normal_divergence(MEAN.numpy(), VARIANCE, np.zeros(1), np.ones(1))
    np.testing.assert_allclose(kl_to_prior(MEAN, LOG_VARIANCE), expected, rtol=1e-10)
    assert kl_to_prior(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]


def test_the_arithmetic_average_is_that_of_means_and_of_variances() -> None:
    mean, variance = averaged(MEAN, LOG_VARIANCE, "arithmetic")
    np.testing.assert_allclose(mean, (MEAN[0] + MEAN[1]) / 2, rtol=1e-12)
    np.testing.assert_allclose(variance, (VARIANCE[0] + VARIANCE[1]) / 2, rtol=1e-12)
    for power in (0.5, 1e-6):  # of deviations, and (nearly) of logarithms, it isn't
        wrong = ((VARIANCE[0] ** power + VARIANCE[1] ** power) / 2) ** (1 / power)
        assert np.abs(variance.numpy() / wrong - 1).max() > 0.1


def test_the_product_of_experts_is_the_product_of_the_densities() -> None:
    """Moments of the normalised product by quadrature."""
    mean, variance = averaged(MEAN, LOG_VARIANCE, "product_of_experts")
    places = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None, None]
    density = (normal(0).log_prob(places) + normal(1).log_prob(places)).exp()
    density = density / density.sum(0)
    first = (density * places).sum(0)
    torch.testing.assert_close(mean, first, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(variance, (density * (places - first) ** 2).sum(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("kind", "equal"), [("arithmetic", 1.0), ("product_of_experts", 0.5)])
def test_the_average_of_equal_views(kind: str, equal: float) -> None:
    mean, variance = averaged(MEAN[:1].expand(2, -1, -1), LOG_VARIANCE[:1].expand(2, -1, -1), kind)
    torch.testing.assert_close(mean, MEAN[0])
    torch.testing.assert_close(variance, equal * LOG_VARIANCE[0].exp())


def test_the_sharper_expert_wins_and_the_arithmetic_mean_stays_in_the_middle() -> None:
    mean = torch.tensor([1.0, -3.0])[:, None, None]
    log_variance = torch.tensor([-8.0, 60.0])[:, None, None]
    product = averaged(mean, log_variance, "product_of_experts")
    assert [values.item() for values in product] == pytest.approx([1, np.exp(-8)], rel=1e-6)
    middle, wide = averaged(mean, log_variance, "arithmetic")
    assert middle.item() == -1
    assert wide.item() == pytest.approx(np.exp(60) / 2, rel=1e-5)
    for kind in AVERAGES:  # variances near the ends of the range of single precision
        extreme = averaged(mean, torch.tensor([-80.0, 80.0])[:, None, None], kind)
        assert all(values.isfinite().all() for values in extreme)


@pytest.mark.parametrize("kind", [*DIVERGENCES, *AVERAGES])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    mean, log_variance = (values[:, :2].clone().requires_grad_() for values in (MEAN, LOG_VARIANCE))

    def function(mean: Tensor, log_variance: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (divergence if kind in DIVERGENCES else averaged)(mean, log_variance, kind)

    assert torch.autograd.gradcheck(function, (mean, log_variance))
