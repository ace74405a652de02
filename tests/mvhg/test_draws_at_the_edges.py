"""Draws at the edges of what they are for: noise, derivatives, precision, sizes, temperatures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch.overrides import TorchFunctionMode

import mvhg
from mvhg._noise import gumbel
from tests.mvhg.helpers import EXACT, HARD, SOFT, generator, make
from tests.mvhg.test_sampling import check_law
from tests.urns import BY_NAME

kinds = pytest.mark.parametrize("kind", [HARD, SOFT])


@kinds
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("sizes, n", [((3, 5), 4), ((3, 5, 4), 5), ((2, 3, 1, 4), 5), ((70, 80, 60), 50)])
def test_a_second_derivative_is_refused_everywhere(
    sizes: tuple[int, ...], n: int, conditionals: str, kind: type
) -> None:
    """Also where the loss is linear, through the weights as parameter, and in the temperature."""
    order = tuple(range(len(sizes)))
    for loss in (lambda x: x[..., 0].sum(), lambda x: x[..., 0].square().sum()):
        for parameter, group_order in (("log_weights", None), ("weights", order), ("log_weights", order[::-1])):
            point = torch.linspace(0.5, 1.5, len(sizes), dtype=torch.float64, requires_grad=True)
            law = kind(0.7, n, sizes, **{parameter: point}, conditionals=conditionals, group_order=group_order)
            (gradient,) = torch.autograd.grad(loss(law.rsample((4,))), point, create_graph=True)
            with pytest.raises(RuntimeError, match="only once"):
                torch.autograd.grad(gradient[0], point)
            (gradient,) = torch.autograd.grad(loss(law.rsample_selection((4,)).one_hot), point, create_graph=True)
            with pytest.raises(RuntimeError, match="only once"):
                gradient.sum().backward()
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    law = kind(temperature, n, sizes, log_weights=torch.zeros(len(sizes), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(law.rsample((4,))[..., 0].sum(), temperature, create_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        gradient.backward()


@kinds
@pytest.mark.parametrize("around_backward", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (400,)])
@pytest.mark.parametrize("sizes, n", [((3, 5), 4), ((3, 5, 4), 5), ((70, 80, 60), 50), ((20_000,) * 3, 9_000)])
def test_autocast_changes_no_draw_and_no_gradient(
    sizes: tuple[int, ...], n: int, shape: tuple[int, ...], around_backward: bool, kind: type
) -> None:
    if sizes[0] == 20_000 and shape == (400,):
        shape = (2,)
    results = []
    for enabled in (False, True):
        point = torch.linspace(-1, 1, len(sizes)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            law = kind(0.5, n, sizes, log_weights=point)
            counts, _, mask = law.rsample_selection(shape, generator=generator(1))
            alone = law.rsample(shape, generator=generator(2))
            loss = counts.double()[..., 0].sum() + mask.double().square().sum()
            loss = loss + (alone * torch.arange(len(sizes))).sum()
            if around_backward:
                loss.backward()
        if not around_backward:
            loss.backward()
        results.append((counts.detach(), alone.detach(), point.grad))
    for plain, mixed in zip(*results):
        assert plain.dtype == torch.float32
        torch.testing.assert_close(plain, mixed, rtol=0, atol=0)


class Uniforms(TorchFunctionMode):
    """Dtypes of the uniform variables drawn; of float32 ones the first of each row is in the lowest of 2^24 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype | None] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in ("rand", "rand_like", "uniform_", "exponential_"):
            self.dtypes.append((kwargs or {}).get("dtype"))
            if self.dtypes[-1] == torch.float32:
                result[..., 0] = 0
        return result


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_has_the_bits_that_rare_events_need(dtype: torch.dtype, kind: type) -> None:
    """With 24 bits events of 1e-7 come 24 percent too seldom; here the uniform that draws one of 2^-41 does so."""
    rare = -41 * math.log(2)
    for order in ((0, 1), (1, 0)):
        law = kind(1e-3, 1, [1, 1], log_weights=torch.tensor([rare, 0.0], dtype=dtype), group_order=order)
        noise = torch.full(law.noise_shape(), 0.5, dtype=torch.float64)
        place = 1 if order[0] == 0 else 0  # of the rare group's one element
        for uniform, expected in ((1 - 2.0**-42, 1.0), (1 - 2.0**-38, 0.0)):
            noise[place] = uniform
            assert float(law.rsample(noise=noise)[0].detach()) == pytest.approx(expected, abs=1e-6)
    with Uniforms() as uniforms:
        kind(0.5, 5, [3, 5, 4], log_weights=torch.zeros(3, dtype=dtype)).rsample_selection((50,))
        EXACT(5, [3, 5, 4], log_weights=torch.zeros(3, dtype=dtype)).sample((50,))
    if dtype == torch.float32 and kind is HARD:
        # Numbers of 24 bits, with 53 more for those in the lowest cell.
        with Uniforms() as uniforms:
            noise = gumbel((100_000, 2), dtype, torch.device("cpu"), generator(11))[:, 0].double()
        uniform = (2.0**24 * (-noise).exp()).numpy()
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
        assert len(np.unique(uniform)) > 50_000
        assert torch.float64 in uniforms.dtypes
    else:
        assert set(uniforms.dtypes) == {torch.float64}


def test_noise_given_makes_the_draw() -> None:
    for kind in (HARD, SOFT):
        for sample, batch in (((), ()), ((5,), (2,)), ((40,), ()), ((), (1500,))):
            law = kind(0.5, 5, [3, 5, 4], log_weights=torch.zeros(*batch, 3))
            noise = torch.rand(law.noise_shape(sample), dtype=torch.float64, generator=generator(4))
            assert noise.shape[:-1] == (*sample, *batch)
            first, again = law.rsample(sample, noise=noise), law.rsample_selection(sample, noise=noise).counts
            assert torch.equal(first, again) and first.shape == (*sample, *batch, 3)
            assert not torch.equal(first, law.rsample(sample, noise=1 - noise))


@pytest.mark.parametrize("name", ["middle-heavy", "twenty-each", "five-groups", "two-groups"])
def test_draws_by_given_noise_follow_the_law(name: str) -> None:
    urn = BY_NAME[name]
    law = make(urn, kind=HARD, temperature=0.5)
    noise = torch.rand(law.noise_shape((40_000,)), dtype=torch.float64, generator=generator(5))
    check_law(law.rsample((40_000,), noise=noise).numpy(), urn)


@pytest.mark.parametrize(
    "n, sizes", [(1000, (10**8, 5 * 10**7, 5 * 10**5)), (10, (2**48, 2**47, 3)), (1, (2**50,) * 4)]
)
def test_few_from_many_touch_nothing_of_the_size_of_the_groups(n: int, sizes: tuple[int, ...]) -> None:
    """Means of 2,000 draws within five standard errors of the multinomial law's, to which so large an urn is equal."""
    shares = np.array(sizes) / sum(sizes)
    point = torch.zeros(len(sizes), dtype=torch.float64, requires_grad=True)
    for kind, temperature in ((EXACT, None), (HARD, 0.5), (HARD, 10.0), (SOFT, 1e-3)):
        arguments = () if temperature is None else (temperature,)
        law = kind(*arguments, n, list(sizes), log_weights=point)
        draw = law.sample if temperature is None else law.rsample
        counts = draw((2000,), generator=generator(6))
        assert (counts.sum(-1) - n).abs().max() < 1e-6
        error = (counts.detach().numpy().mean(0) - n * shares) / np.sqrt(n * shares * (1 - shares) / 2000 + 1e-9)
        # A soft draw may miss the edge of its support, which counts where nearly nothing is drawn.
        error = error[n * shares > 1e-3]
        assert np.abs(error).max() < 6, (kind, temperature, error)
        if temperature is not None:
            counts[..., 0].sum().backward()
            assert torch.isfinite(point.grad).all()


def test_a_draw_costs_no_more_memory_above_temperature_1() -> None:
    """Widths of the tables, which noise is drawn for: no wider than the support, hardly wider than at 0.5."""
    sizes, point = [10_000] * 3, torch.zeros(3)
    widths = [HARD(t, 9_000, sizes, log_weights=point).noise_shape()[-1] for t in (0.5, 2.0)]
    assert widths[0] < widths[1] < 1.5 * widths[0] < 9_000


@pytest.mark.parametrize("conditionals", ["exact", "merged"])
@pytest.mark.parametrize("shape", [(), (6,)], ids=["one draw an urn", "draws share an urn"])
def test_the_gradient_of_an_urn_does_not_depend_on_its_batch(shape: tuple[int, ...], conditionals: str) -> None:
    """Beside a larger urn, sums that no draw leaves had a place in the table, and a part in the slopes."""
    torch.manual_seed(0)
    sizes, totals = (
        torch.tensor([[3, 2, 9, 5], [9, 9, 9, 9], [2, 3, 1, 4], *[[5, 5, 2, 5]] * 8]),
        torch.tensor([3, 30, 5, *[1] * 8]),
    )
    log_weights = torch.randn(11, 4, dtype=torch.float64)
    order = (2, 0, 3, 1)

    def gradients(rows: slice) -> torch.Tensor:
        weights = log_weights[rows].clone().requires_grad_()
        urn = HARD(1.7, totals[rows], sizes[rows], log_weights=weights, group_order=order, conditionals=conditionals)
        columns = urn.noise_shape()[-1] // 3
        noise = uniform[..., rows, :, :columns].flatten(-2)
        (gradient,) = torch.autograd.grad((urn.rsample(shape, noise=noise) * slopes[rows]).sum(), weights)
        return gradient

    uniform, slopes = torch.rand(*shape, 11, 3, 31, dtype=torch.float64), torch.randn(11, 4, dtype=torch.float64)
    together = gradients(slice(None))
    for i in range(11):
        torch.testing.assert_close(gradients(slice(i, i + 1)), together[i : i + 1], rtol=1e-9, atol=1e-10)


@kinds
@pytest.mark.parametrize(
    "sizes, n, temperature, shape",
    [
        ((3, 5, 4), 5, 2.0, (3,)),
        ((70, 80, 60), 50, 0.3, (3,)),
        ((0, 5, 4), 5, 50.0, (3,)),
        ((3, 5), 4, 0.5, ()),
        ((2, 3, 1, 4), 5, 0.5, (200,)),
        ((5,), 3, 0.5, (2,)),
    ],
)
def test_derivatives_by_torch_func_are_those_of_autograd(
    kind: type, sizes: tuple[int, ...], n: int, temperature: float, shape: tuple[int, ...]
) -> None:
    """At the same noise: one by one, mapped over weights, and as a Jacobian."""
    points = torch.tensor([[0.0, 1.6, 0.3, -1.0], [50.0, -50.0, 0.0, 1.0]], dtype=torch.float64)[:, : len(sizes)]
    law = kind(temperature, n, sizes, log_weights=points[0])
    noise = torch.rand((2, *law.noise_shape(shape)), dtype=torch.float64, generator=generator(8))

    def draw(point: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        drawn = kind(temperature, n, sizes, log_weights=point, validate_args=False)
        counts, _, mask = drawn.rsample_selection(shape, noise=noise)
        return counts[..., 0] + mask.square().sum((-1, -2))

    def loss(point: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return draw(point, noise).sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(points, noise)
    for point, own, gradient in zip(points, noise, mapped):
        expected = torch.autograd.functional.jacobian(lambda p, own=own: draw(p, own).flatten()[:6], point)
        found = torch.func.jacrev(lambda p, own=own: draw(p, own).flatten()[:6])(point)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
        leaf = point.clone().requires_grad_()
        loss(leaf, own).backward()
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(torch.func.grad(loss)(point, own), leaf.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weight", [300.0, 700.0, 1e4, 1e12])
@pytest.mark.parametrize("sizes, n", [((2, 3, 1, 4), 5), ((9, 2, 5, 3, 1), 13), ((4, 4, 4, 4), 7)])
def test_small_urns_of_enormous_weights(sizes: tuple[int, ...], n: int, weight: float, dtype: torch.dtype) -> None:
    """What is left by the heavy group is made up of others, however much rarer they are."""
    torch.manual_seed(0)
    row = torch.tensor([weight, -weight, 0.0, 1.0, 0.5][: len(sizes)], dtype=dtype)
    for temperature in (0.3, 10.0):
        log_weights = row.repeat(50, 1).requires_grad_()
        selection = HARD(temperature, n, sizes, log_weights=log_weights).rsample_selection()
        assert (selection.counts.sum(-1) == n).all() and (selection.counts[:, 0] == sizes[0]).all()
        assert (selection.counts[:, 1] == max(0, n - sum(sizes) + sizes[1])).all()
        loss = sum((form * torch.randn_like(form)).sum() for form in selection)
        assert torch.isfinite(torch.autograd.grad(loss, log_weights)[0]).all()


@pytest.mark.parametrize("sizes", [(3, 5), (3, 5, 4), (70, 80, 60)])
@kinds
def test_a_temperature_changed_in_place_counts(kind: type, sizes: tuple[int, ...]) -> None:
    log_weights = torch.zeros(len(sizes), dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.5, dtype=torch.float64)
    changed = kind(temperature, 4, sizes, log_weights=log_weights)
    changed.rsample()
    temperature.fill_(5.0)
    for shape in ((), (3,)):
        gradients = []
        for urn in (changed, kind(5.0, 4, sizes, log_weights=log_weights)):
            torch.manual_seed(1)
            gradients.append(torch.autograd.grad(urn.rsample(shape)[..., 0].sum(), log_weights)[0])
        torch.testing.assert_close(gradients[0], gradients[1])


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("temperature", [1e-307, 1e-39, 1e39, 1e200, 1e307])
def test_temperatures_at_the_ends_of_a_float(temperature: float, dtype: torch.dtype, kind: type) -> None:
    """Draws are those of a hard or of an even softmax, and no gradient is NaN; also in the temperature."""
    for sizes, n in (((3, 5), 4), ((3, 5, 4), 5), ((2, 3, 1, 4), 5), ((70, 80, 60), 50)):
        for given in (temperature, torch.tensor(temperature, dtype=torch.float64, requires_grad=True)):
            for shape in ((), (3,), (200,)):
                point = torch.linspace(-1, 1, len(sizes), dtype=dtype).requires_grad_()
                counts = kind(given, n, list(sizes), log_weights=point).rsample(shape, generator=generator(1))
                assert (counts.sum(-1) - n).abs().max() < 1e-4
                wanted = [point] if isinstance(given, float) else [point, given]
                for gradient in torch.autograd.grad(counts[..., 0].sum(), wanted):
                    assert torch.isfinite(gradient).all()
                if temperature < 1 and sizes[0] < 10:
                    assert (counts - counts.round()).abs().max() < 1e-6
                if kind is SOFT and temperature > 1 and len(sizes) == 2:
                    torch.testing.assert_close(counts[..., 0], torch.full(shape, 1.5, dtype=dtype))


@kinds
@pytest.mark.parametrize("sizes, n", [((3, 5), 4), ((3, 5, 4), 10), ((2, 3, 1, 4), 8), ((70, 80, 60), 150)])
def test_noise_of_0_is_small_noise(sizes: tuple[int, ...], n: int, kind: type) -> None:
    """Its logarithm made all counts alike and impossible ones be drawn."""
    for shape in ((), (3,)):
        point = torch.zeros(len(sizes), dtype=torch.float64, requires_grad=True)
        law = kind(0.5, n, list(sizes), log_weights=point)
        noise = torch.zeros(law.noise_shape(shape), dtype=torch.float64)
        counts = law.rsample(shape, noise=noise)
        assert law.support.check(counts).all()
        assert torch.isfinite(torch.autograd.grad(counts[..., 0].sum(), point)[0]).all()
        torch.testing.assert_close(counts, law.rsample(shape, noise=noise + 1e-300))


@pytest.mark.parametrize("sizes", [(3, 5), (3, 5, 4), (3, 5, 4, 2)], ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (400,)])
def test_gradients_may_come_in_any_layout(shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    point = torch.zeros(2, 3, len(sizes), requires_grad=True)
    for form in HARD(0.5, 4, list(sizes), log_weights=point).rsample_selection(shape, generator=generator(1)):
        turned = torch.randn(form.shape[::-1], generator=generator(2)).permute(*range(form.dim() - 1, -1, -1))
        gradients = [torch.autograd.grad(form, point, g, retain_graph=True)[0] for g in (turned, turned.contiguous())]
        assert torch.equal(*gradients)


def test_single_draws_from_many_touch_nothing_of_the_size_of_the_groups() -> None:
    for sizes in ([2**48, 2**47], [2**48, 2**47, 3], [2**48, 2**47, 5, 2**40]):
        point = torch.zeros(len(sizes), dtype=torch.float64, requires_grad=True)
        counts = HARD(0.5, 10, sizes, log_weights=point).rsample(generator=generator(1))
        assert counts.sum() == 10 and torch.isfinite(torch.autograd.grad(counts[0], point)[0]).all()
        for law in (HARD(0.5, 10, sizes), SOFT(0.5, 10, sizes), mvhg.MultivariateHypergeometricSecondOrder(10, sizes)):
            with pytest.raises(
                ValueError, match="rsample_selection would have vectors of .* group_sizes up to 281,474"
            ):
                law.rsample_selection((2,))
