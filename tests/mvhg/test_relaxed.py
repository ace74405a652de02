"""The soft relaxation: its distribution in the tails, and its gradient at fixed noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

import mvhg
from tests import oracle
from tests.mvhg.helpers import FAILURE_RATE, generator, make
from tests.urns import BY_NAME, Urn

SOFT = mvhg.RelaxedMultivariateHypergeometric
HARD = mvhg.MultivariateHypergeometricStraightThrough
WIDE = Urn("wide-tails", 60, (200, 20, 20), (-50.0, 50.0, 0.0))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def group_first(urn: Urn, group: int) -> tuple[int, ...]:
    return (group, *(j for j in range(urn.groups) if j != group))


def logistic_differences(one_hot: np.ndarray, log_pmf: np.ndarray, temperature: float) -> np.ndarray:
    """Noise differences of disjoint neighbours in the support, recovered from relaxed one-hots [draws, support].

    tau log y_k - log p_k is the Gumbel noise g_k up to a constant of the draw; the difference of two independent
    Gumbel variables is a standard logistic one, whatever the law, so any error of log p_k shows, in nats.
    """
    noise = temperature * np.log(one_hot) - log_pmf
    pairs = noise[:, : noise.shape[1] // 2 * 2]
    return pairs[:, 1::2] - pairs[:, ::2]


@pytest.mark.parametrize("group", [0, 1, 2])
@pytest.mark.parametrize(
    "urn, temperature",
    [
        (BY_NAME["middle-heavy"], 0.5),
        (BY_NAME["twenty-each"], 10.0),
        (BY_NAME["paper"], 10.0),
        (BY_NAME["more-than-half"], 10.0),
        (BY_NAME["deep-tails"], 10.0),
        (BY_NAME["wide-half-plateau"], 20.0),
        (WIDE, 10.0),
    ],
    ids=str,
)
def test_relaxed_one_hots_are_gumbel_softmax_of_the_exact_log_pmf(urn: Urn, temperature: float, group: int) -> None:
    """Kolmogorov-Smirnov per pair of neighbours with 400 draws, Bonferroni over the support; pooled with all of them.

    The critical distance is 0.15 per pair: a log pmf wrong by 1.2 nats anywhere in the tails is found.
    """
    distribution = make(urn, kind=SOFT, temperature=temperature, group_order=group_first(urn, group))
    one_hot = distribution.rsample_selection((400,), generator=generator(41)).one_hot[:, group].numpy()
    log_pmf = oracle.log_marginals(*urn.arguments)[group]
    finite = np.isfinite(log_pmf)
    assert (one_hot[:, ~finite] == 0).all() and (one_hot[:, finite] > 0).all()
    differences = logistic_differences(one_hot[:, finite], log_pmf[finite], temperature)
    p_values = np.array([stats.kstest(column, "logistic").pvalue for column in differences.T])
    assert p_values.min() > FAILURE_RATE / len(p_values)
    assert stats.kstest(differences.ravel(), "logistic").pvalue > FAILURE_RATE


def test_relaxed_one_hot_of_a_later_group_uses_its_exact_conditional() -> None:
    """Group 0 takes all of its three elements but for exp(-80), so group 1 is the first of a smaller urn."""
    urn, temperature = Urn("certain-first", 33, (3, 60, 5, 5), (50.0, -30.0, -10.0, -10.0)), 1.6
    rest = Urn("rest", 30, urn.group_sizes[1:], urn.log_weights[1:])
    distribution = make(urn, kind=SOFT, temperature=temperature, group_order=(0, 1, 2, 3))
    counts, one_hot, _ = distribution.rsample_selection((2000,), generator=generator(42))
    assert (counts[:, 0] == 3.0).all()
    log_pmf = oracle.log_marginals(*rest.arguments)[0]
    finite = np.flatnonzero(np.isfinite(log_pmf))
    differences = logistic_differences(one_hot[:, 1, finite].numpy(), log_pmf[finite], temperature)
    assert stats.kstest(differences.ravel(), "logistic").pvalue > FAILURE_RATE


def noisy_soft_counts(log_pmf: np.ndarray, temperature: float, draws: int, seed: int) -> np.ndarray:
    support = np.flatnonzero(np.isfinite(log_pmf))
    noise = np.random.default_rng(seed).gumbel(size=(draws, len(support)))
    return softmax((log_pmf[support] + noise) / temperature) @ support


def test_soft_mean_at_temperature_10_reads_the_tails() -> None:
    """Tails lost below 1e-16 of the maximum would give 85.73 for the noiseless mean instead of 90.26."""
    urn = BY_NAME["deep-tails"]
    log_pmf = oracle.log_marginals(*urn.arguments)[0]
    support = np.flatnonzero(np.isfinite(log_pmf))
    assert softmax(log_pmf[support] / 10.0) @ support == pytest.approx(90.26, abs=0.01)
    reference = noisy_soft_counts(log_pmf, 10.0, 20_000, seed=1)
    for conditionals_order in ((0, 1, 2), (0, 2, 1)):
        distribution = make(urn, kind=SOFT, temperature=10.0, group_order=conditionals_order)
        soft = distribution.rsample((20_000,), generator=generator(43))[:, 0].numpy()
        standard_error = math.sqrt(soft.var() / len(soft) + reference.var() / len(reference))
        assert standard_error < 0.01
        assert abs(soft.mean() - reference.mean()) < 5 * standard_error


@pytest.mark.parametrize("group", [0, 1, 2])
@pytest.mark.parametrize("urn", [WIDE, BY_NAME["wide-half-plateau"]], ids=str)
def test_soft_counts_at_extreme_weights_have_the_reference_distribution(urn: Urn, group: int) -> None:
    """Two-sample Kolmogorov-Smirnov of soft counts, 5,000 against 5,000: distances above 0.05 are found."""
    distribution = make(urn, kind=SOFT, temperature=10.0, group_order=group_first(urn, group))
    soft = distribution.rsample((5000,), generator=generator(44))[:, group].numpy()
    reference = noisy_soft_counts(oracle.log_marginals(*urn.arguments)[group], 10.0, 5000, seed=2)
    assert stats.ks_2samp(soft, reference).pvalue > FAILURE_RATE


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("order, conditionals", [(None, "exact"), ("reversed", "exact"), ("reversed", "merged")])
@pytest.mark.parametrize(
    "name", ["middle-heavy", "two-groups", "five-groups", "twenty-each", "deep-tails", "empty-groups"]
)
def test_gradient_at_fixed_noise_is_the_finite_difference(
    name: str, order: str | None, conditionals: str, temperature: float
) -> None:
    urn = BY_NAME[name]
    group_order = tuple(reversed(range(urn.groups))) if order else None
    largest = max(urn.group_sizes)
    weights_of = torch.Generator().manual_seed(5)
    a, b, c = (
        torch.randn(shape, generator=weights_of, dtype=torch.float64)
        for shape in ((urn.groups,), (urn.groups, largest + 1), (urn.groups, largest))
    )

    def loss(point: torch.Tensor) -> torch.Tensor:
        distribution = make(
            urn,
            kind=SOFT,
            temperature=temperature,
            log_weights=point,
            group_order=group_order,
            conditionals=conditionals,
        )
        counts, one_hot, prefix_mask = distribution.rsample_selection((3,), generator=generator(45))
        return (counts * a).sum() + (one_hot * b).sum() + (prefix_mask * c).sum()

    point = torch.tensor(urn.log_weights, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(point), point)
    step = 1e-5
    for i in range(urn.groups):
        shift = torch.zeros_like(point).detach()
        shift[i] = step
        with torch.no_grad():
            difference = (loss(point + shift) - loss(point - shift)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(float(difference), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_gradient_of_a_single_step_is_the_variance_of_the_softmax(kind: type, temperature: float) -> None:
    """Two groups, drawn in given order: d soft count / d log omega_0 = Var_y(k) / tau with y the relaxed one-hot.

    Its mean over 40,000 draws against NumPy's over its own 40,000, within five standard errors of at most 3 percent.
    """
    urn = BY_NAME["two-groups"]
    log_pmf = oracle.enumerate_law(*urn.arguments).log_marginals[0]
    support = np.flatnonzero(np.isfinite(log_pmf))
    noise = np.random.default_rng(6).gumbel(size=(40_000, len(support)))
    y = softmax((log_pmf[support] + noise) / temperature)
    reference = (y @ support**2 - (y @ support) ** 2) / temperature
    point = torch.tensor(urn.log_weights, dtype=torch.float64).expand(40_000, 2).clone().requires_grad_()
    distribution = make(urn, kind=kind, temperature=temperature, log_weights=point, group_order=(0, 1))
    distribution.rsample(generator=generator(46))[:, 0].sum().backward()
    assert torch.isfinite(point.grad).all()
    gradient = point.grad[:, 0].numpy()
    standard_error = math.sqrt(gradient.var() / len(gradient) + reference.var() / len(reference))
    assert standard_error < 0.03 * reference.mean()
    assert abs(gradient.mean() - reference.mean()) < 5 * standard_error
    np.testing.assert_allclose(point.grad.sum(-1).numpy(), 0.0, atol=1e-9)


def test_soft_counts_become_hard_ones_as_the_temperature_falls() -> None:
    urn = BY_NAME["twenty-each"]
    counts = make(urn, kind=SOFT, temperature=1e-3).rsample((2000,), generator=generator(47))
    assert ((counts - counts.round()).abs() < 1e-3).double().mean() > 0.97


def test_the_relaxed_class_has_no_density_and_says_so() -> None:
    distribution = make(BY_NAME["middle-heavy"], kind=SOFT, temperature=0.5)
    with pytest.raises(NotImplementedError, match="density"):
        distribution.log_prob(torch.tensor([1.0, 3.0, 1.0]))


def test_the_straight_through_class_has_the_discrete_law() -> None:
    urn = BY_NAME["middle-heavy"]
    law, distribution = oracle.enumerate_law(*urn.arguments), make(urn, kind=HARD, temperature=0.5)
    np.testing.assert_allclose(distribution.log_prob(torch.tensor(law.support)).numpy(), law.log_pmf, atol=1e-9)
    np.testing.assert_allclose(distribution.mean.numpy(), law.mean, atol=1e-9)
    np.testing.assert_allclose(float(distribution.entropy()), law.entropy, atol=1e-9)
