"""One draw from each urn of a batch, on a CPU, has its own way: counts and gradients are those of the general one."""

from __future__ import annotations

import pytest
import torch

import mvhg
from tests.mvhg.helpers import generator

HARD = mvhg.MultivariateHypergeometricStraightThrough
URNS = [
    ((10, 10), 10),
    ((10, 10), 15),
    ((9, 2), 4),
    ((3, 4), 0),
    ((3, 5, 4), 5),
    ((3, 5, 4), 9),
    ((3, 4, 2), 9),
    ((60, 50, 40), 70),
    ((4,) * 5, 17),
    ((10,) * 10, 50),
    ((128,) * 4, 100),
]


@pytest.mark.parametrize("scale", [0.5, 20.0])
@pytest.mark.parametrize("temperature", [0.5, 10.0])
@pytest.mark.parametrize("batch", [1, 5, 600])
@pytest.mark.parametrize("sizes, n", URNS)
def test_single_draws_are_those_of_the_general_way(
    sizes: tuple[int, ...], n: int, batch: int, temperature: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = generator(1)
    point = scale * torch.randn(batch, len(sizes), dtype=torch.float64, generator=g)
    law = HARD(temperature, n, sizes, log_weights=point)
    if law._single_urn(None) is None:
        pytest.skip("too many urns of this size")
    (single, general), _ = both_ways(sizes, n, point, temperature, g, monkeypatch)
    for one, other in zip(single, general):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def both_ways(
    sizes: tuple[int, ...],
    n: int,
    point: torch.Tensor,
    temperature: float,
    g: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[tuple[torch.Tensor, ...]], float]:
    """Draws by the same noise and their gradient, as single draws and the general way; and the gradient's scale."""
    law = HARD(temperature, n, sizes, log_weights=point)
    noise = torch.rand(law.noise_shape(), dtype=torch.float64, generator=g)
    shapes = [part.shape for part in law.rsample_selection()]
    factors = [torch.randn(shape, dtype=torch.float64, generator=g) for shape in shapes]
    results = []
    for general in (False, True):
        with monkeypatch.context() as patch:
            if general:
                patch.setattr(HARD, "_single_urn", lambda self, noise: None)
            leaf = point.clone().requires_grad_()
            drawn = HARD(temperature, n, sizes, log_weights=leaf).rsample_selection(noise=noise)
            sum((a * b).sum() for a, b in zip(drawn, factors)).backward()
            results.append((*drawn, leaf.grad))
    return results, max(float(results[1][-1].abs().max()), 1e-9)


@pytest.mark.parametrize("largest, urns", [(5, 60), (40, 12)])
def test_both_ways_have_one_derivative_at_the_edges(largest: int, urns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal groups, and totals up to nothing and everything: where a sum is out of reach in one order alone."""
    g = generator(7)
    for _ in range(urns):
        groups = int(torch.randint(2, 7, (), generator=g))
        sizes = tuple(torch.randint(1, largest + 1, (groups,), generator=g).tolist())
        n = int(torch.randint(0, sum(sizes) + 1, (), generator=g))
        point = torch.randn(16, groups, dtype=torch.float64, generator=g)
        assert HARD(0.5, n, sizes, log_weights=point)._single_urn(None) is not None
        (single, general), scale = both_ways(sizes, n, point, 0.5, g, monkeypatch)
        assert torch.equal(single[0], general[0]), (sizes, n)
        assert float((single[-1] - general[-1]).abs().max()) <= 1e-9 * scale, (sizes, n)


@pytest.mark.parametrize("sizes", [(3, 5), (3, 5, 4)])
def test_batches_of_any_shape_and_temperatures_of_each_element(sizes: tuple[int, ...]) -> None:
    temperature = torch.linspace(0.3, 3.0, 700, dtype=torch.float64).reshape(700, 1)
    point = torch.randn(2, 700, 2, len(sizes), generator=generator(2)).requires_grad_()
    law = HARD(temperature, 5, sizes, log_weights=point)
    noise = torch.rand(law.noise_shape(), dtype=torch.float64, generator=generator(3))
    selection = law.rsample_selection(noise=noise)
    assert selection.prefix_mask.shape == (2, 700, 2, len(sizes), 5)
    selection.prefix_mask.square().sum().backward()
    for k in (0, 699):
        part = point.detach()[1, k].clone().requires_grad_()
        one = HARD(float(temperature[k]), 5, sizes, log_weights=part).rsample_selection(noise=noise[1, k])
        assert torch.equal(one.counts, selection.counts[1, k])
        one.prefix_mask.square().sum().backward()
        torch.testing.assert_close(part.grad, point.grad[1, k], rtol=1e-4, atol=1e-5)
