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
    noise = torch.rand(law.noise_shape(), dtype=torch.float64, generator=g)
    shapes = [part.shape for part in law.rsample_selection()]
    factors = [torch.randn(shape, dtype=torch.float64, generator=g) for shape in shapes]
    results = []
    for general in (False, True):
        if general:
            monkeypatch.setattr(HARD, "_single_urn", lambda self, noise: None)
        leaf = point.clone().requires_grad_()
        drawn = HARD(temperature, n, sizes, log_weights=leaf).rsample_selection(noise=noise)
        sum((a * b).sum() for a, b in zip(drawn, factors)).backward()
        results.append((*drawn, leaf.grad))
    for single, general in zip(*results):
        torch.testing.assert_close(single, general, rtol=1e-8, atol=1e-8)


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
