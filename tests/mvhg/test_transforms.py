"""Derivatives of draws by every route, and inputs of unusual types and sizes."""

from __future__ import annotations

import pytest
import torch

import mvhg


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_sizes_and_totals_of_narrow_integer_types(dtype: torch.dtype) -> None:
    narrow = mvhg.MultivariateHypergeometric(torch.tensor(5, dtype=dtype), torch.tensor([3, 5, 4], dtype=dtype))
    assert torch.equal(narrow.mean, mvhg.MultivariateHypergeometric(5, [3, 5, 4]).mean)


@pytest.mark.parametrize(
    "kind", [mvhg.RelaxedMultivariateHypergeometric, mvhg.MultivariateHypergeometricStraightThrough]
)
def test_draws_say_that_they_have_no_second_derivative(kind: type) -> None:
    for order in ((0, 1, 2), (2, 1, 0)):
        point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        loss = kind(0.5, 5, [3, 5, 4], log_weights=point, group_order=order).rsample((4,))[:, 0].square().sum()
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
        with pytest.raises(RuntimeError, match="only once"):
            torch.autograd.grad(gradient[0], point)


@pytest.mark.parametrize(
    "kind", [mvhg.RelaxedMultivariateHypergeometric, mvhg.MultivariateHypergeometricStraightThrough]
)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_functional_gradient_of_draws_is_the_ordinary_one(kind: type, temperature: float) -> None:
    """At the same noise: a seed is used up in another order where torch transforms the draw."""
    law = kind(temperature, 5, [3, 5, 4], log_weights=torch.zeros(3, dtype=torch.float64))
    shape = law.noise_shape((6,))
    noise = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def draw(point: torch.Tensor) -> torch.Tensor:
        return kind(temperature, 5, [3, 5, 4], log_weights=point).rsample((6,), noise=noise)[:, 0].sum()

    point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (ordinary,) = torch.autograd.grad(draw(point), point)
    transformed = torch.func.grad(draw)(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(transformed, ordinary, rtol=1e-12, atol=1e-12)


def test_gradient_in_the_temperature_is_the_finite_difference() -> None:
    def draw(temperature: torch.Tensor) -> torch.Tensor:
        law = mvhg.RelaxedMultivariateHypergeometric(
            temperature, 5, [3, 5, 4], log_weights=torch.zeros(3, dtype=torch.float64), group_order=(0, 1, 2)
        )
        return law.rsample((50,), generator=torch.Generator().manual_seed(4))[:, 0].sum()

    temperature, step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1e-6
    (gradient,) = torch.autograd.grad(draw(temperature), temperature)
    with torch.no_grad():
        difference = (draw(temperature + step) - draw(temperature - step)) / (2 * step)
    assert float(gradient) == pytest.approx(float(difference), rel=1e-5)


def test_no_draw_has_a_fixed_order_of_groups() -> None:
    """Draw number 4 of six would always take one order of three groups, whose gradient is off by a tenth."""
    point = torch.zeros(3, dtype=torch.float64).expand(4000, 3).clone().requires_grad_()
    law = mvhg.MultivariateHypergeometricStraightThrough(0.5, 5, [3, 5, 4], log_weights=point)
    gradients = [
        torch.autograd.grad(law.rsample((6,), generator=torch.Generator().manual_seed(5))[i, :, 0].sum(), point)[0]
        for i in range(6)
    ]
    means = torch.stack([gradient.mean(0) for gradient in gradients])
    errors = torch.stack([gradient.std(0) / 4000**0.5 for gradient in gradients])
    # 18 means within 5 standard errors of their average: chance fails once in 100,000.
    assert ((means - means.mean(0)).abs() < 5 * errors).all()


def test_counts_off_by_one_are_impossible_however_large_the_total() -> None:
    law = mvhg.MultivariateHypergeometric(100_000, [100_000] * 3, validate_args=False)
    assert law.log_prob(torch.tensor([33334.0, 33334.0, 33333.0])) == -torch.inf
