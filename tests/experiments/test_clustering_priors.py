"""The priors over the cluster assignments, the hypergeometric one above all: the law, its limits, its gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.clustering.priors import CategoricalPrior, HypergeometricPrior, UniformPrior
from experiments.clustering.priors.hypergeometric import draw_assignments
from tests import oracle
from tests.experiments.clustering_reference import hypergeometric_log_prob, tabulate
from tests.mvhg.helpers import FAILURE_RATE, chi_square_p_value, detectable_effect

WEIGHTS = (0.8, -0.5, 0.1)  # log omega
SMALL = [(4, 3), (5, 2), (3, 4)]  # digits and clusters whose assignments can all be listed
SETTINGS = [{}, {"reading": "assignments"}, {"group_size": 4}, {"conditionals": "merged"}]
SETTINGS.append({"reading": "assignments", "conditionals": "merged", "group_size": 3})


def make(log_weights: Sequence[float], **settings: Any) -> HypergeometricPrior:
    prior = HypergeometricPrior(num_clusters=len(log_weights), **settings).double()
    with torch.no_grad():
        prior.raw_log_weights.copy_(torch.tensor(log_weights, dtype=torch.float64))
    return prior


def weights_of(clusters: int) -> tuple[float, ...]:
    return tuple(np.linspace(-0.9, 0.7, clusters) ** 3 + 0.3)


def as_counts(assignment: Sequence[int], clusters: int) -> Tensor:
    return torch.bincount(torch.tensor(assignment), minlength=clusters).double()


def one_hot(assignment: Sequence[int], clusters: int) -> Tensor:
    """Log responsibilities that leave no doubt about the assignment."""
    return 1e4 * (torch.eye(clusters, dtype=torch.float64)[list(assignment)] - 1)


def random_responsibilities(digits: int, clusters: int, seed: int) -> Tensor:
    values = torch.empty(digits, clusters, dtype=torch.float64).normal_(generator=torch.Generator().manual_seed(seed))
    return (2 * values).log_softmax(-1)


def gumbel(digits: int, clusters: int, seed: int) -> Tensor:
    values = torch.empty(digits, clusters, dtype=torch.float64)
    return -values.exponential_(generator=torch.Generator().manual_seed(seed)).log()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("digits", "clusters"), SMALL)
def test_log_prob_equals_exact_rational_arithmetic(settings: dict[str, Any], digits: int, clusters: int) -> None:
    prior = make(weights_of(clusters), **settings)
    sizes = (digits * prior.group_size,) * clusters
    support = list(oracle.enumerate_counts(digits, sizes))
    expected = [hypergeometric_log_prob(prior, np.array(weights_of(clusters)), np.array(x)) for x in support]
    found = prior.law(digits).log_prob(torch.tensor(support).double()).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    exact = make(weights_of(clusters), group_size=prior.group_size)  # which q(c | x) takes, whatever is scored
    torch.testing.assert_close(prior.law(digits).log_probabilities, exact.law(digits).log_probabilities)
    torch.testing.assert_close(prior.law(digits).log_prob(torch.tensor(support[1]).double()).detach(), found[1])


@pytest.mark.parametrize("group_size", [1, 3])
def test_the_probability_of_one_digit_is_the_marginal_of_the_joint_law(group_size: int) -> None:
    """log E[x_k] / n against the sum over all assignments in which the first digit is in cluster k."""
    digits, prior = 5, make(WEIGHTS, reading="assignments", group_size=group_size)
    marginal = np.zeros(3)
    for assignment in itertools.product(range(3), repeat=digits):
        log_prob = hypergeometric_log_prob(prior, np.array(WEIGHTS), as_counts(assignment, 3).numpy())
        marginal[assignment[0]] += math.exp(log_prob)
    np.testing.assert_allclose(prior.law(digits).log_probabilities.exp().detach(), marginal, rtol=1e-9)


def test_with_large_groups_the_assignments_reading_is_the_categorical_prior() -> None:
    """Value and gradient; the error falls as 1 / group_size, here by the factor 10 to within 15 %."""
    categorical = CategoricalPrior(num_clusters=3).double()
    with torch.no_grad():
        categorical.logits.copy_(torch.tensor(WEIGHTS))
    q, noise = random_responsibilities(20, 3, 0), gumbel(20, 3, 1)
    drawn = draw_assignments(q, noise, torch.tensor(0.5))
    # The categorical prior at the drawn assignment: an exact expectation under certain responsibilities.
    certain = one_hot(drawn.argmax(-1).tolist(), 3)
    expected = categorical.law(len(certain)).expected_log_prob(certain, noise, torch.tensor(0.5))
    (expected_gradient,) = torch.autograd.grad(expected, categorical.logits)
    errors = []
    for group_size in (10, 100, 1000, 10_000):
        prior = make(WEIGHTS, reading="assignments", group_size=group_size)
        value = prior.law(len(q)).expected_log_prob(q, noise, torch.tensor(0.5))
        (gradient,) = torch.autograd.grad(value, prior.raw_log_weights)
        difference = prior.law(20).log_probabilities - categorical.law(20).log_probabilities
        quantities = (value - expected, (gradient - expected_gradient).norm(), difference.norm())
        errors.append([abs(x.item()) for x in quantities])
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert (np.abs(ratios / 10 - 1) < [[0.6], [0.15], [0.15]]).all(), ratios
    assert max(errors[-1]) < 1e-4


@pytest.mark.parametrize(("reading", "pull"), [("counts", 0.0), ("assignments", 1.0)])
def test_a_law_of_counts_that_fits_the_counts_pulls_no_digit_to_a_large_cluster(reading: str, pull: float) -> None:
    """Moving one of 330 digits to a cluster ten times as large adds log 10 to log p of a prior over assignments.

    To the law of counts it adds next to nothing, however unequal the weights that have learned these counts: it acts on
    the clusters like the uniform prior.
    """
    large, small, digits = 150.0, 15.0, 330
    # Weights with these means: omega_k = x_k / (m_k - x_k) up to a factor, to the order of 1 / x_k.
    prior = make([math.log(x / (digits - x)) for x in (large, large, small, small)], reading=reading)
    law = prior.law(digits)
    np.testing.assert_allclose(law.log_probabilities.exp().detach() * digits, [large, large, small, small], rtol=0.02)
    before, after = ([large + move, large, small - move, small] for move in (0.0, 1.0))
    gain = law.log_prob(torch.tensor(after)) - law.log_prob(torch.tensor(before))
    assert abs(gain.item() - pull * math.log(large / small)) < 0.1


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_equal_finite_differences(settings: dict[str, Any]) -> None:
    """Of log p in the weights, and of p(c_i = k); both in float64."""
    prior, counts = HypergeometricPrior(num_clusters=3, **settings), torch.tensor([4.0, 1.0, 2.0])

    def values(log_weights: Tensor) -> tuple[Tensor, Tensor]:
        class Call(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.prior = prior

            def forward(self) -> tuple[Tensor, Tensor]:
                return prior.law(7).log_prob(counts), prior.law(7).log_probabilities

        return torch.func.functional_call(Call(), {"prior.raw_log_weights": log_weights}, ())

    assert torch.autograd.gradcheck(values, torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True))


def test_the_categorical_and_uniform_expectations_are_exact() -> None:
    """By the sum over all assignments, weighted by their probabilities under q."""
    categorical, uniform = CategoricalPrior(num_clusters=3).double(), UniformPrior(num_clusters=3).double()
    with torch.no_grad():
        categorical.logits.copy_(torch.tensor(WEIGHTS))
    q, noise = random_responsibilities(4, 3, 6), gumbel(4, 3, 7)
    pi = np.exp(WEIGHTS) / np.exp(WEIGHTS).sum()
    for prior, probabilities in ((categorical, pi), (uniform, np.full(3, 1 / 3))):
        expected = 0.0
        for assignment in itertools.product(range(3), repeat=4):
            chance = math.exp(sum(q[i, k].item() for i, k in enumerate(assignment)))
            expected += chance * sum(math.log(probabilities[k]) for k in assignment) / 4
        assert prior.law(len(q)).expected_log_prob(q, noise, torch.tensor(0.5)).item() == pytest.approx(expected)
        np.testing.assert_allclose(prior.law(4).log_probabilities.exp().detach(), probabilities)


@pytest.mark.parametrize("reading", ["counts", "assignments"])
def test_the_drawn_prior_term_is_unbiased(reading: str) -> None:
    """Its mean over 2,000 draws against the sum over all 3^4 assignments: five standard errors, two-sided 6e-7."""
    prior, q = make(WEIGHTS, reading=reading), random_responsibilities(4, 3, 8)
    expected = 0.0
    for assignment in itertools.product(range(3), repeat=4):
        chance = math.exp(sum(q[i, k].item() for i, k in enumerate(assignment)))
        expected += chance * hypergeometric_log_prob(prior, np.array(WEIGHTS), as_counts(assignment, 3).numpy()) / 4
    law = tabulate(prior, digits=4)
    noise = gumbel(2000 * 4, 3, 15).reshape(-1, 4, 3)
    term = torch.func.vmap(lambda draw: law.expected_log_prob(q, draw, torch.tensor(2.0)))
    values = term(noise).numpy()
    assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(len(values))


def test_straight_through_draws_are_one_hot_and_follow_the_responsibilities() -> None:
    """Chi-square on 40,000 draws, failure rate 1e-5: finds sqrt(sum (p - q)^2 / q) of 0.038 with a chance of 99 %."""
    assert detectable_effect(cells=5, draws=40_000) < 0.038
    for temperature in (0.1, 1.0, 30.0):
        q = random_responsibilities(1, 5, 9)
        draws = draw_assignments(q.expand(40_000, -1), gumbel(40_000, 5, 10), torch.tensor(temperature))
        assert ((draws == 0) | (draws == 1)).all() and (draws.sum(-1) == 1).all()
        p_value = chi_square_p_value(draws.numpy(), np.eye(5), q[0].exp().numpy())
        assert p_value > FAILURE_RATE


@pytest.mark.parametrize(
    ("setting", "value"),
    [("num_clusters", 1), ("reading", "both"), ("conditionals", "approximate"), ("group_size", 0), ("group_size", 1.5)],
)
def test_bad_settings_are_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"\n{setting}\n"):
        HypergeometricPrior(**{"num_clusters": 3, setting: value})
