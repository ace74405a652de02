"""On a CPU one draw from each urn of a batch, and draws that share no urn, have ways of their own.

Counts and gradients are those of the general way, in float32 up to a stated error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mvhg import _relaxation, _wide_draws
from tests import oracle
from tests.mvhg.helpers import HARD, generator

SINGLE = [
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
WIDE = [
    ((3, 5, 4), 5),
    ((3, 4, 2), 9),
    ((3, 0, 5, 7), 6),
    ((200, 200, 200), 180),
    ((128,) * 10, 128),
    ((1000, 5, 5), 100),
    ((60, 40, 20, 10), 66),
]
LARGE = pytest.mark.parametrize(
    "sizes, n", [((200, 200, 200), 180), ((128,) * 10, 128), ((300, 200, 100, 50), 333)], ids=str
)
SERVED = [
    ("single", *urn, batch, temperature, 1e-8)
    for urn in SINGLE
    for batch in (1, 5, 600)
    for temperature in (0.5, 10.0)
    if batch * max(urn[0]) < 30_000
]
# Where the general way sums large urns by transforms or its windows end, what lies beyond its depth differs.
SERVED += [("wide", *urn, 20, temperature, 3e-6) for urn in WIDE for temperature in (0.5, 2.0, 10.0)]


def no_single_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HARD, "_single_urn", lambda self, noise: None)


def both_ways(
    way: str,
    sizes: tuple[int, ...],
    n: int,
    point: torch.Tensor,
    temperature: float,
    g: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
    mixed: bool = False,
) -> list[list[torch.Tensor]]:
    """Draws by the same noise and their gradient; the general way last, in float64 where ``mixed``."""
    results = []
    with monkeypatch.context() as patch:
        if way == "wide":
            no_single_draws(patch)
        law = HARD(temperature, n, sizes, log_weights=point)
        depth = law._relaxation(False).depth
        served = _wide_draws.serves(law._bounds, len(sizes), depth) if way == "wide" else law._single_urn(None)
        assert served, (sizes, n)
        noise = torch.rand(law.noise_shape(), dtype=torch.float64, generator=g)
        shapes = [part.shape for part in law.rsample_selection()]
        factors = [torch.randn(shape, dtype=torch.float64, generator=g) for shape in shapes]
        for general in (False, True):
            if general and way == "single":
                no_single_draws(patch)
            elif general:
                patch.setattr(_wide_draws, "serves", lambda *_: False)
                patch.setattr(_relaxation, "depth_read", lambda *_: depth)  # as wide in both dtypes
            leaf = point.detach().clone()
            leaf = (leaf.double() if general and mixed else leaf).requires_grad_()
            drawn = HARD(temperature, n, sizes, log_weights=leaf).rsample_selection(noise=noise)
            sum((a * b).sum() for a, b in zip(drawn, factors)).backward()
            assert leaf.grad is not None
            results.append([part.detach() for part in (*drawn, leaf.grad)])
    return results


def assert_alike(ways: list[list[torch.Tensor]], tolerance: float, what: Any) -> None:
    own, general = ways
    for one, other in zip(own[:3], general[:3]):
        assert torch.equal(one, other), what
    assert float((own[3] - general[3]).abs().max()) <= tolerance * max(float(general[3].abs().max()), 1e-9), what


@pytest.mark.parametrize("scale", [0.5, 20.0])
@pytest.mark.parametrize("way, sizes, n, batch, temperature, tolerance", SERVED)
def test_draws_are_those_of_the_general_way(
    way: str,
    sizes: tuple[int, ...],
    n: int,
    batch: int,
    temperature: float,
    tolerance: float,
    scale: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    g = generator(1)
    point = scale * torch.randn(batch, len(sizes), dtype=torch.float64, generator=g)
    assert_alike(both_ways(way, sizes, n, point, temperature, g, monkeypatch), tolerance, sizes)


@pytest.mark.parametrize(
    "way, groups, largest, urns", [("single", 2, 5, 60), ("single", 2, 40, 12), ("wide", 3, 8, 40)]
)
def test_both_ways_have_one_derivative_at_the_edges(
    way: str, groups: int, largest: int, urns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unequal groups, and totals up to nothing and everything: where a sum is out of reach in one order alone."""
    g = generator(7)
    for _ in range(urns):
        number = int(torch.randint(groups, 7, (), generator=g))
        sizes = tuple(torch.randint(1, largest + 1, (number,), generator=g).tolist())
        n = int(torch.randint(0, sum(sizes) + 1, (), generator=g))
        point = torch.randn(16, number, dtype=torch.float64, generator=g)
        assert_alike(both_ways(way, sizes, n, point, 0.5, g, monkeypatch), 1e-9, (sizes, n))


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


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@LARGE
def test_float32_keeps_the_digits_of_a_gradient(
    sizes: tuple[int, ...], n: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = generator(2)
    point = 0.5 * torch.randn(24, len(sizes), generator=g)
    wide, general = both_ways("wide", sizes, n, point, temperature, g, monkeypatch, mixed=True)
    same = (wide[0] == general[0]).all(1)
    assert same.float().mean() >= 0.95
    error = (wide[3].double() - general[3])[same].abs().amax(1) / general[3][same].abs().amax(1)
    assert float(error.median()) <= 2e-4 and float(error.max()) <= 2e-2


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 2e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
@LARGE
def test_total_variation_of_the_first_conditional(
    sizes: tuple[int, ...],
    n: int,
    temperature: float,
    dtype: torch.dtype,
    bound: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the oracle's marginal, which is the law of the group drawn first."""
    no_single_draws(monkeypatch)
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
