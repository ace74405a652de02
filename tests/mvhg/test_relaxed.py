"""The soft relaxation: its distribution in the tails, and its gradient at fixed noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests import oracle
from tests.mvhg.helpers import FAILURE_RATE, HARD, SOFT, generator, log_weights, make
from tests.urns import BY_NAME, Urn

NAMES = ("two-groups", "middle-heavy", "twenty-each", "paper", "more-than-half", "deep-tails", "wide-half-plateau")
FIXED = [
    *(BY_NAME[name] for name in NAMES),
    Urn("wide-tails", 60, (200, 20, 20), (-50.0, 50.0, 0.0)),
    Urn("four-groups", 33, (3, 60, 5, 5), (5.0, -3.0, 0.0, -1.0)),
]


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def group_first(urn: Urn, group: int) -> tuple[int, ...]:
    return (group, *(j for j in range(urn.groups) if j != group))


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.7, 1.5, 10.0, 100.0])
@pytest.mark.parametrize("urn", FIXED, ids=str)
@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_draws_are_the_gumbel_softmax_of_the_exact_log_pmf_at_the_same_noise(
    kind: type, urn: Urn, temperature: float
) -> None:
    """Of each group drawn first: counts, one-hot vectors, and their gradient Var_y(x) / T, y the oracle's softmax."""
    # One from each of 30 urns where that is cheap, 30 from one urn elsewhere.
    batch, sample = ((30,), ()) if sum(urn.group_sizes) < 100 else ((), (30,))
    checked = 0
    for group in range(urn.groups):
        log_pmf = oracle.log_marginals(*urn.arguments)[group]
        support = np.flatnonzero(np.isfinite(log_pmf))
        point = log_weights(urn).expand(*batch, urn.groups).clone().requires_grad_()
        order = group_first(urn, group)
        law = make(urn, kind=kind, temperature=temperature, log_weights=point, group_order=order)
        noise = torch.rand(law.noise_shape(sample), dtype=torch.float64, generator=generator(7))
        columns = noise.shape[-1] // (urn.groups - 1)
        if columns < len(support):
            continue  # windows leave out part of the support: their first count is not known here
        checked += 1
        counts, one_hot, _ = law.rsample_selection(sample, noise=noise)
        counts[:, group].sum().backward()
        # The first column belongs to the least count that the sizes allow.
        least = max(0, urn.group_sizes[group] - (sum(urn.group_sizes) - urn.total_count))
        gumbel = -np.log(-np.log(noise[:, :columns].numpy()))
        values = log_pmf[support] + gumbel[:, support - least]
        y = softmax(values / temperature)
        if kind is HARD:
            assert (counts[:, group].detach().numpy() == support[values.argmax(1)]).all()
        else:
            np.testing.assert_allclose(counts[:, group].detach(), y @ support, rtol=1e-9, atol=1e-7)
            np.testing.assert_allclose(one_hot[:, group, support].detach(), y, rtol=1e-5, atol=1e-12)
        expected = (y @ support.astype(float) ** 2 - (y @ support) ** 2) / temperature
        expected = expected if batch else expected.sum()
        tolerance = max(1.0, np.max(expected))
        np.testing.assert_allclose(point.grad[..., group], expected, rtol=1e-6, atol=1e-6 * tolerance)
        np.testing.assert_allclose(point.grad.sum(-1), 0.0, atol=1e-9 * tolerance)
    assert checked or temperature < 1


def logistic_differences(one_hot: np.ndarray, log_pmf: np.ndarray, temperature: float) -> np.ndarray:
    """Noise differences of disjoint neighbours in the support, recovered from relaxed one-hots [draws, support].

    tau log y_k - log p_k is the Gumbel noise g_k up to a constant of the draw; the difference of two independent
    Gumbel variables is a standard logistic one, whatever the law, so any error of log p_k shows, in nats.
    """
    noise = temperature * np.log(one_hot) - log_pmf
    pairs = noise[:, : noise.shape[1] // 2 * 2]
    return pairs[:, 1::2] - pairs[:, ::2]


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


def test_gradient_in_the_temperature_is_the_finite_difference() -> None:
    def draw(temperature: torch.Tensor) -> torch.Tensor:
        law = SOFT(temperature, 5, [3, 5, 4], log_weights=torch.zeros(3, dtype=torch.float64), group_order=(0, 1, 2))
        return law.rsample((50,), generator=generator(4))[:, 0].sum()

    temperature, step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1e-6
    (gradient,) = torch.autograd.grad(draw(temperature), temperature)
    with torch.no_grad():
        difference = (draw(temperature + step) - draw(temperature - step)) / (2 * step)
    assert float(gradient) == pytest.approx(float(difference), rel=1e-5)


def test_soft_counts_become_hard_ones_as_the_temperature_falls() -> None:
    urn = BY_NAME["twenty-each"]
    counts = make(urn, kind=SOFT, temperature=1e-3).rsample((2000,), generator=generator(47))
    assert ((counts - counts.round()).abs() < 1e-3).double().mean() > 0.97


def test_the_relaxed_class_has_no_density_and_says_so() -> None:
    distribution = make(BY_NAME["middle-heavy"], kind=SOFT, temperature=0.5)
    with pytest.raises(NotImplementedError, match="density"):
        distribution.log_prob(torch.tensor([1.0, 3.0, 1.0]))
    for name in ("mean", "variance"):
        with pytest.raises(NotImplementedError):
            getattr(distribution, name)
