"""Draws that share no urn, on a CPU: those of the general way, in float32 up to a stated error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mvhg
from mvhg import _relaxation, _wide_draws
from tests import oracle
from tests.mvhg.helpers import generator

HARD = mvhg.MultivariateHypergeometricStraightThrough
WIDE = [
    ((3, 5, 4), 5),
    ((3, 4, 2), 9),
    ((3, 0, 5, 7), 6),
    ((200, 200, 200), 180),
    ((128,) * 10, 128),
    ((1000, 5, 5), 100),
    ((60, 40, 20, 10), 66),
]


@pytest.fixture(autouse=True)
def _no_single_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HARD, "_single_urn", lambda self, noise: None)


def both_ways(
    sizes: tuple[int, ...],
    n: int,
    point: torch.Tensor,
    temperature: float,
    g: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
    mixed: bool = False,
) -> list[list[torch.Tensor]]:
    """Draws by the same noise and their gradient; the general way last, in float64 where ``mixed``."""
    law = HARD(temperature, n, sizes, log_weights=point)
    assert _wide_draws.serves(law._bounds, len(sizes), law._relaxation(False).depth)
    noise = torch.rand(law.noise_shape(), dtype=torch.float64, generator=g)
    shape = (len(point), len(sizes), max(sizes))
    factors = [torch.randn(s, dtype=torch.float64, generator=g) for s in (shape, shape[:2])]
    results = []
    depth = law._relaxation(False).depth
    for general in (False, True):
        with monkeypatch.context() as patch:
            if general:
                patch.setattr(_wide_draws, "serves", lambda *_: False)
                patch.setattr(_relaxation, "depth_read", lambda *_: depth)  # as wide in both dtypes
            leaf = point.detach().clone()
            leaf = (leaf.double() if general and mixed else leaf).requires_grad_()
            drawn = HARD(temperature, n, sizes, log_weights=leaf).rsample_selection(noise=noise)
            ((drawn.prefix_mask * factors[0]).sum() + (drawn.counts * factors[1]).sum()).backward()
            assert leaf.grad is not None
            results.append([part.detach() for part in (*drawn, leaf.grad)])
    return results


@pytest.mark.parametrize("scale", [0.5, 20.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("sizes, n", WIDE)
def test_draws_are_those_of_the_general_way(
    sizes: tuple[int, ...], n: int, temperature: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = generator(1)
    point = scale * torch.randn(20, len(sizes), dtype=torch.float64, generator=g)
    wide, general = both_ways(sizes, n, point, temperature, g, monkeypatch)
    for one, other in zip(wide[:3], general[:3]):
        assert torch.equal(one, other)
    # Where the general way sums large urns by transforms or its windows end, what lies beyond its depth differs.
    assert float((wide[3] - general[3]).abs().max()) <= 3e-6 * max(float(general[3].abs().max()), 1e-9)


def test_the_derivative_at_the_edges_is_that_of_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal groups, and totals up to nothing and everything: where a sum is out of reach in one order alone."""
    g = generator(7)
    for _ in range(40):
        groups = int(torch.randint(3, 7, (), generator=g))
        sizes = tuple(torch.randint(1, 9, (groups,), generator=g).tolist())
        n = int(torch.randint(0, sum(sizes) + 1, (), generator=g))
        point = torch.randn(16, groups, dtype=torch.float64, generator=g)
        wide, general = both_ways(sizes, n, point, 0.5, g, monkeypatch)
        assert torch.equal(wide[0], general[0]), (sizes, n)
        scale = max(float(general[3].abs().max()), 1e-9)
        assert float((wide[3] - general[3]).abs().max()) <= 1e-9 * scale, (sizes, n)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("sizes, n", [((200, 200, 200), 180), ((128,) * 10, 128), ((300, 200, 100, 50), 333)])
def test_float32_keeps_the_digits_of_a_gradient(
    sizes: tuple[int, ...], n: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = generator(2)
    point = 0.5 * torch.randn(24, len(sizes), generator=g)
    wide, general = both_ways(sizes, n, point, temperature, g, monkeypatch, mixed=True)
    same = (wide[0] == general[0]).all(1)
    assert same.float().mean() >= 0.95
    error = (wide[3].double() - general[3])[same].abs().amax(1) / general[3][same].abs().amax(1)
    assert float(error.median()) <= 2e-4 and float(error.max()) <= 2e-2


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 2e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("sizes, n", [((200, 200, 200), 180), ((128,) * 10, 128), ((300, 200, 100, 50), 333)])
def test_total_variation_of_the_first_conditional(
    sizes: tuple[int, ...],
    n: int,
    temperature: float,
    dtype: torch.dtype,
    bound: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the oracle's marginal, which is the law of the group drawn first."""
    made = []
    original = _wide_draws._draw_part

    def watched(*arguments: object) -> Any:
        drawn = original(*arguments)  # type: ignore[arg-type]
        made.append(drawn[1])
        return drawn

    monkeypatch.setattr(_wide_draws, "_draw_part", watched)
    weights = torch.linspace(-0.5, 0.5, len(sizes), dtype=dtype)
    order = tuple(range(len(sizes)))
    HARD(temperature, n, sizes, log_weights=weights.expand(2, -1), group_order=order).rsample()
    law = (made[0].terms[0, 0].double() * made[0].tables[0][0].double()).numpy()
    low = int(made[0].windows.low[0, 0])
    exact = np.exp(oracle.log_marginals(n, sizes, tuple(weights.double().tolist()))[0])
    mine = np.zeros(max(len(exact), low + len(law)))
    mine[low : low + len(law)] = law / law.sum()
    exact = np.pad(exact, (0, len(mine) - len(exact)))
    assert np.abs(mine - exact).sum() / 2 <= bound
