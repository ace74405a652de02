"""NeuralSort against the formula of its authors, its limits, and the order that its noise draws."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.weak_supervision.methods.hgvae import log_exponential_like, neural_sort
from tests.experiments.weak_supervision_fits import generator
from tests.experiments.weak_supervision_reference import neural_sort as reference

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS = 40_000
FAILURE = 1e-4  # share of seeds for which a right implementation would fail a statistical test here


def make_scores(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=generator(), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [10.0, 1.0, 0.1, 0.01])
def test_it_is_the_published_formula(temperature: float) -> None:
    scores = make_scores(6, 10)
    result = neural_sort(scores, temperature)
    assert result.shape == (6, 10, 10)
    expected = np.stack([reference(row.numpy(), temperature) for row in scores])
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(neural_sort(scores.reshape(2, 3, 10), torch.tensor(temperature)).flatten(0, 1), result)
    torch.testing.assert_close(result.sum(-1), torch.ones(6, 10, dtype=torch.float64))


def test_towards_zero_it_is_the_permutation_that_sorts_in_descending_order() -> None:
    scores = make_scores(50, 10).float()
    result = neural_sort(scores, 1e-4)
    expected = torch.nn.functional.one_hot(scores.argsort(-1, descending=True), 10).float()
    # Scores that lie within a few temperatures of each other are still mixed: none of these do.
    assert scores.sort(-1).values.diff(dim=-1).min() > 10 * 1e-4
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close((result @ scores[..., None])[..., 0], scores.sort(-1, descending=True).values)


def test_at_high_temperatures_every_rank_is_uniform() -> None:
    torch.testing.assert_close(neural_sort(make_scores(10), 1e8), torch.full((10, 10), 0.1, dtype=torch.float64))


def test_equal_scores_share_their_ranks() -> None:
    result = neural_sort(torch.tensor([2.0, 5.0, 2.0]), 0.01)
    torch.testing.assert_close(result, torch.tensor([[0, 1.0, 0], [0.5, 0, 0.5], [0.5, 0, 0.5]]))


def test_gradients_are_those_of_finite_differences() -> None:
    scores = make_scores(2, 5).requires_grad_()
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(neural_sort, (scores, temperature))


def test_the_noise_is_minus_gumbels_and_finite_at_the_edges_of_the_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kolmogorov-Smirnov test that sees distances above 0.011."""
    noise = log_exponential_like(torch.zeros(DRAWS, dtype=torch.float64), generator())
    assert stats.kstest(-noise.numpy(), stats.gumbel_r.cdf).pvalue > FAILURE
    torch.testing.assert_close(noise, log_exponential_like(torch.zeros(DRAWS, dtype=torch.float64), generator()))
    edges = torch.tensor([0.0, 1 - 2**-24])
    monkeypatch.setattr(torch, "rand", lambda *arguments, **settings: edges)
    assert log_exponential_like(edges).isfinite().all()
    nearly = torch.tensor([1 - 1e-12], dtype=torch.float64)  # 1 in single precision
    assert log_exponential_like(edges[:1], uniform=nearly).isfinite().all()


def test_with_noise_on_log_scores_orders_are_plackett_luce_draws() -> None:
    """Chi-square over the six orders of three: a frequency that is off by 0.011 is seen with a power above one half."""
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    scores = weights.log().expand(DRAWS, -1)
    ranks = neural_sort(scores - log_exponential_like(scores, generator()), 1e-6).argmax(-1)
    codes = (ranks * torch.tensor([9, 3, 1])).sum(-1)
    counts, expected = [], []
    for order in permutations(range(3)):
        first, second, third = (weights[place].item() for place in order)
        expected.append(DRAWS * first / 7 * second / (second + third))
        counts.append(int((codes == 9 * order[0] + 3 * order[1] + order[2]).sum()))
    assert sum(counts) == DRAWS
    assert stats.chisquare(counts, expected).pvalue > FAILURE
