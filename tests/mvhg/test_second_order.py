"""Second-order draws: their expected gradient, by enumeration of the law in NumPy, and what they share with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import mvhg
from tests import oracle
from tests.mvhg.helpers import chi_square_p_value, generator

URNS = [((3, 5, 4), 5, (1.0, 5.0, 1.0)), ((2, 2), 2, (1.0, 3.0)), ((4, 1, 2, 3), 6, (0.2, 1.0, 4.0, 2.0))]
Function = Callable[[torch.Tensor], torch.Tensor]


def law_of(sizes: tuple[int, ...], total: int, log_weights: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Support and probabilities."""
    law = oracle.enumerate_law(total, sizes, tuple(log_weights.tolist()))
    return law.support, law.pmf


def form_of(counts: torch.Tensor, form: str, most: int) -> torch.Tensor:
    ladder = torch.arange(most + 1)
    vectors = {"one_hot": counts.unsqueeze(-1) == ladder, "prefix_mask": counts.unsqueeze(-1) > ladder[:-1]}
    return vectors.get(form, counts).double()


def expected_gradient(
    urn: tuple[tuple[int, ...], int, tuple[float, ...]], form: str, function: Function, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of single draws, weighted by their probabilities; and the gradient of the expectation by central differences."""
    sizes, total, weights = urn
    log_weights = torch.tensor(weights, dtype=torch.float64).log().requires_grad_()
    points, probability = law_of(sizes, total, log_weights.detach().numpy())
    law = mvhg.MultivariateHypergeometricSecondOrder(total, sizes, log_weights=log_weights)
    gradient = torch.zeros_like(log_weights)
    for point, share in zip(torch.from_numpy(points).double(), probability, strict=True):
        monkeypatch.setattr(law, "sample", lambda *_, drawn=point, **__: drawn)
        drawn = law.rsample() if form == "counts" else getattr(law.rsample_selection(), form)
        assert torch.equal(drawn, form_of(point, form, max(sizes)))
        gradient += share * torch.autograd.grad(function(drawn), log_weights)[0]
    values = np.array([float(function(form_of(point, form, max(sizes)))) for point in torch.from_numpy(points)])
    steps = 1e-5 * np.eye(len(sizes))
    at = log_weights.detach().numpy()
    slopes = [(law_of(sizes, total, at + s)[1] - law_of(sizes, total, at - s)[1]) @ values / 2e-5 for s in steps]
    return gradient.numpy(), np.array(slopes)


@pytest.mark.parametrize("form", ["counts", "one_hot", "prefix_mask"])
@pytest.mark.parametrize("urn", URNS, ids=str)
def test_unbiased_for_quadratic_losses(urn: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = form_of(torch.zeros(len(urn[0])), form, max(urn[0])).numel()
    matrix = torch.randn(numbers, numbers, generator=generator(0), dtype=torch.float64)
    vector = torch.randn(numbers, generator=generator(1), dtype=torch.float64)

    def quadratic(drawn: torch.Tensor) -> torch.Tensor:
        flat = drawn.flatten()
        return flat @ matrix @ flat + vector @ flat

    found, expected = expected_gradient(urn, form, quadratic, monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_bias_of_other_losses_is_the_third_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of c x^3 it is proportional to c, and a loss with such a part is biased: what is called unbiased is not luck."""
    biases = []
    for scale in (0.0, 1.0, 2.0):
        found, expected = expected_gradient(
            URNS[0], "counts", lambda x, scale=scale: x[1] ** 2 + scale * x[1] ** 3, monkeypatch
        )
        biases.append(found - expected)
    assert np.abs(biases[0]).max() < 1e-7
    assert np.abs(biases[1]).max() > 1e-2
    np.testing.assert_allclose(biases[2], 2 * biases[1], atol=1e-6)


def test_draws_follow_the_law() -> None:
    sizes, total, weights = URNS[0]
    points, probability = law_of(sizes, total, np.log(weights))
    law = mvhg.MultivariateHypergeometricSecondOrder(total, sizes, weights=torch.tensor(weights))
    counts, vectors, masks = law.rsample_selection((20_000,), generator=generator(2))
    assert chi_square_p_value(counts.numpy(), points, probability) > 1e-5
    assert torch.equal(vectors.argmax(-1), counts.long())
    assert torch.equal(masks.sum(-1), counts)
    assert torch.equal(counts, law.rsample((20_000,), generator=generator(2)))


def test_batches_weights_and_types() -> None:
    """Gradients of a batch are those of its rows; of weights they are those of log weights over the weights."""
    weights = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 1.0]], requires_grad=True)
    law = mvhg.MultivariateHypergeometricSecondOrder(torch.tensor([5, 3]), [3, 5, 4], weights=weights)
    counts, vectors, masks = law.rsample_selection((7,), generator=generator(3))
    assert counts.shape == (7, 2, 3)
    assert vectors.shape == (7, 2, 3, 6)
    assert masks.shape == (7, 2, 3, 5)
    assert counts.dtype == vectors.dtype == masks.dtype == torch.float32
    (together,) = torch.autograd.grad(counts.square().sum(), weights)
    for row, total in enumerate((5, 3)):
        log_weights = weights[row].detach().double().log().requires_grad_()
        alone = mvhg.MultivariateHypergeometricSecondOrder(total, [3, 5, 4], log_weights=log_weights)
        drawn = counts[:, row].detach()
        alone.sample = lambda *_, drawn=drawn, **__: drawn  # type: ignore[method-assign]
        (expected,) = torch.autograd.grad(alone.rsample((7,)).square().sum(), log_weights)
        torch.testing.assert_close(together[row], (expected / weights[row].detach()).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("urn", [([3, 4], 0), ([3, 4], 7), ([5], 2), ([0, 2, 3], 4)], ids=str)
def test_urns_at_the_edge(urn: tuple[list[int], int]) -> None:
    """Where nothing is random the gradient is 0, and everywhere it is finite."""
    sizes, total = urn
    log_weights = torch.linspace(-30, 30, len(sizes), dtype=torch.float64).requires_grad_()
    law = mvhg.MultivariateHypergeometricSecondOrder(total, sizes, log_weights=log_weights)
    drawn = law.rsample_selection((3,), generator=generator(4))
    loss = drawn.counts.square().sum() + drawn.one_hot.sin().sum() + drawn.prefix_mask.cos().sum()
    (gradient,) = torch.autograd.grad(loss, log_weights)
    assert torch.isfinite(gradient).all()
    if len(sizes) < 3:
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_what_is_refused() -> None:
    log_weights = torch.zeros(3, requires_grad=True)
    merged = mvhg.MultivariateHypergeometricSecondOrder(5, [3, 5, 4], log_weights=log_weights, conditionals="merged")
    for draw in (merged.rsample, merged.rsample_selection):
        with pytest.raises(NotImplementedError, match="conditionals='merged'"):
            draw()
    law = mvhg.MultivariateHypergeometricSecondOrder(5, [3, 5, 4], log_weights=log_weights)
    (gradient,) = torch.autograd.grad(law.rsample().square().sum(), log_weights, create_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(gradient.sum(), log_weights)


def test_under_vmap() -> None:
    """Rows of weights drawn by one generator state each, as in a loop."""
    log_weights = torch.randn(4, 3, generator=generator(5), dtype=torch.float64)
    drawn = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)

    def loss(row: torch.Tensor) -> torch.Tensor:
        law = mvhg.MultivariateHypergeometricSecondOrder(5, [3, 5, 4], log_weights=row, validate_args=False)
        law.sample = lambda *_, **__: drawn  # type: ignore[method-assign]
        return law.rsample().pow(3).sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(log_weights)
    torch.testing.assert_close(mapped, torch.stack([torch.func.grad(loss)(row) for row in log_weights]))
