"""Quality of the straight-through gradient of E[f(x)] against the exact one by enumeration, at default settings.

tau = 0.5; f linear, and quadratic around a point well away from the mean. Error: Euclidean distance of the mean gradient
over many draws from the exact gradient, relative to the exact gradient's norm.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import mvhg
from tests import oracle
from tests.mvhg.helpers import generator, make
from tests.urns import Urn

SLOPES = np.array([1.0, -2.0, 0.5])
CASES = {
    # sizes: (n, e, largest error allowed, draws)
    (3, 5, 4): (5, (3.0, 0.0, 2.0), 0.10, 60_000),
    (20, 20, 20): (18, (12.0, 2.0, 4.0), 0.02, 120_000),
}


def objective(x: torch.Tensor, name: str, e: tuple[float, ...]) -> torch.Tensor:
    if name == "linear":
        return (x * torch.tensor(SLOPES, dtype=x.dtype)).sum(-1)
    return (x - torch.tensor(e, dtype=x.dtype)).square().sum(-1)


@pytest.mark.parametrize("name", ["linear", "quadratic"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 5, 1), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("sizes", CASES, ids=str)
def test_mean_gradient_is_close_to_the_exact_one(sizes: tuple[int, ...], weights: tuple[float, ...], name: str) -> None:
    n, e, allowed, draws = CASES[sizes]
    urn = Urn("case", n, sizes, tuple(math.log(w) for w in weights))
    law = oracle.enumerate_law(*urn.arguments)
    values = objective(torch.tensor(law.support, dtype=torch.float64), name, e).numpy()
    exact = law.expectation((values - law.expectation(values))[:, None] * (law.support - law.mean))  # Cov(f, x)
    scale = float(np.linalg.norm(exact))
    assert scale > 0.5 * math.sqrt(np.trace(law.covariance)), "the exact gradient must not vanish for a ratio to mean anything"

    g, sums, squares, chunk = generator(51), np.zeros(3), np.zeros(3), 20_000
    for _ in range(draws // chunk):
        point = torch.tensor(urn.log_weights, dtype=torch.float32).expand(chunk, 3).clone().requires_grad_()
        kind = mvhg.MultivariateHypergeometricStraightThrough
        distribution = make(urn, kind=kind, temperature=0.5, log_weights=point)
        objective(distribution.rsample(generator=g), name, e).sum().backward()
        sums += point.grad.double().sum(0).numpy()
        squares += point.grad.double().square().sum(0).numpy()
    mean = sums / draws
    standard_error = math.sqrt(float(((squares / draws - mean**2) / draws).sum())) / scale
    error = float(np.linalg.norm(mean - exact)) / scale
    assert standard_error < allowed / 3, f"undecided: standard error {standard_error:.4f}"
    assert error <= allowed, f"error {error:.4f} with standard error {standard_error:.4f}, allowed {allowed}"
