"""``rsample_selection``: counts, one-hot vectors and prefix masks that say the same, in the caller's group order."""

from __future__ import annotations

import pytest
import torch

from tests.mvhg.helpers import HARD, SOFT, generator, make
from tests.urns import BY_NAME, SMALL, Urn

URNS = [*SMALL, BY_NAME["paper"], BY_NAME["deep-tails"], BY_NAME["more-than-half"]]
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
urns = pytest.mark.parametrize("urn", URNS, ids=str)
orders = pytest.mark.parametrize("order", ["random", "given", "merged"])


def draw(urn: Urn, kind: type, order: str, dtype: torch.dtype, temperature: float = 0.7, draws: int = 100):
    given = tuple(range(1, urn.groups)) + (0,)
    distribution = make(
        urn,
        dtype,
        kind=kind,
        temperature=temperature,
        group_order=None if order == "random" else given,
        conditionals="merged" if order == "merged" else "exact",
    )
    selection = distribution.rsample_selection((draws,), generator=generator(31))
    largest = max(urn.group_sizes)
    assert selection._fields == ("counts", "one_hot", "prefix_mask")
    assert selection.counts.shape == (draws, urn.groups)
    assert selection.one_hot.shape == (draws, urn.groups, largest + 1)
    assert selection.prefix_mask.shape == (draws, urn.groups, largest)
    assert all(part.dtype == dtype for part in selection)
    return selection


@dtypes
@orders
@pytest.mark.parametrize("urn", [*URNS, BY_NAME["many-groups"]], ids=str)
def test_hard_counts_one_hots_and_masks_agree_to_the_last_bit(urn: Urn, order: str, dtype: torch.dtype) -> None:
    counts, one_hot, prefix_mask = draw(urn, HARD, order, dtype)
    sizes = torch.tensor(urn.group_sizes)
    assert (counts == counts.round()).all() and (counts >= 0).all() and (counts <= sizes).all()
    assert (counts.sum(-1) == urn.total_count).all()
    assert (one_hot == torch.nn.functional.one_hot(counts.long(), max(urn.group_sizes) + 1)).all()
    assert (prefix_mask == (torch.arange(max(urn.group_sizes)) < counts[..., None])).all()


@dtypes
@orders
@pytest.mark.parametrize("temperature", [0.1, 10.0])
@urns
def test_soft_counts_one_hots_and_masks_agree(urn: Urn, temperature: float, order: str, dtype: torch.dtype) -> None:
    counts, one_hot, prefix_mask = draw(urn, SOFT, order, dtype, temperature, draws=50)
    largest, sizes = max(urn.group_sizes), torch.tensor(urn.group_sizes)
    # a few units in the last place of the largest number involved
    ulp = torch.finfo(dtype).eps * max(1, urn.total_count)
    assert (counts >= -4 * ulp).all() and (counts <= sizes + 4 * ulp).all()
    torch.testing.assert_close(
        counts.sum(-1), torch.full((50,), float(urn.total_count), dtype=dtype), rtol=0, atol=8 * ulp
    )
    near = {"rtol": 0, "atol": 64 * torch.finfo(dtype).eps}
    assert (one_hot >= 0).all()
    torch.testing.assert_close(one_hot.sum(-1), torch.ones_like(counts), **near)
    beyond = torch.arange(largest + 1) > sizes[:, None]
    assert (one_hot[:, beyond] == 0).all()
    torch.testing.assert_close(one_hot @ torch.arange(largest + 1, dtype=dtype), counts, rtol=0, atol=64 * ulp)
    torch.testing.assert_close(prefix_mask.sum(-1), counts, rtol=0, atol=64 * ulp)
    tails = one_hot.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    torch.testing.assert_close(prefix_mask, tails, **near)
    if largest > 1:
        assert (prefix_mask.diff(dim=-1) <= near["atol"]).all()


@pytest.mark.parametrize("name", ["equal", "middle-heavy", "five-groups", "twenty-each", "paper"])
def test_the_determined_group_interpolates_between_neighbours(name: str) -> None:
    urn = BY_NAME[name]
    order = (*range(1, urn.groups), 0)  # the caller's group 0 is drawn last
    distribution = make(urn, kind=SOFT, temperature=2.0, group_order=order)
    counts, one_hot, _ = distribution.rsample_selection((100,), generator=generator(32))
    ladder = torch.arange(one_hot.shape[-1], dtype=torch.float64)
    expected = (1.0 - (counts[:, :1] - ladder).abs()).clamp(min=0.0)
    torch.testing.assert_close(one_hot[:, 0], expected, rtol=0, atol=1e-12)
    assert ((one_hot[:, 1] > 1e-6).sum(-1) > 2).any(), "a drawn group is a softmax, not an interpolation"


@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_rsample_is_the_counts_of_the_selection(kind: type) -> None:
    distribution = make(BY_NAME["middle-heavy"], kind=kind, temperature=0.7)
    selection = distribution.rsample_selection((20,), generator=generator(33))
    assert (distribution.rsample((20,), generator=generator(33)) == selection.counts).all()


@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_a_random_group_order_varies_between_draws(kind: type) -> None:
    """Soft: the interpolated group is not always the same one. Hard: counts show nothing, so look at gradients."""
    point = torch.zeros(200, 3, dtype=torch.float64, requires_grad=True)
    distribution = make(BY_NAME["equal"], kind=kind, temperature=2.0, log_weights=point)
    _, one_hot, _ = distribution.rsample_selection(generator=generator(34))
    if kind is SOFT:
        interpolated = (one_hot > 1e-9).sum(-1) <= 2
        assert (interpolated.float().mean(0) > 0.1).all()
    else:
        repeated = torch.stack(
            [
                torch.autograd.grad(
                    make(BY_NAME["equal"], kind=kind, temperature=2.0, log_weights=point)
                    .rsample(generator=g)[:, 0]
                    .sum(),
                    point,
                )[0]
                for g in (generator(35), generator(36))
            ]
        )
        assert torch.isfinite(repeated).all() and (repeated[0] != repeated[1]).any()


@pytest.mark.parametrize("kind", [HARD, SOFT])
@pytest.mark.parametrize("order", [None, (0, 1, 2), (2, 0, 1)])
def test_gradients_keep_the_sum_and_the_scale(kind: type, order: tuple[int, ...] | None) -> None:
    """The counts sum to n whatever the weights are; a common factor of the weights changes nothing."""
    point = torch.tensor([0.0, 1.6, 0.3], dtype=torch.float64, requires_grad=True)
    distribution = make(BY_NAME["twenty-each"], kind=kind, temperature=0.7, log_weights=point, group_order=order)
    counts = distribution.rsample((50,), generator=generator(37))
    (of_sum,) = torch.autograd.grad(counts.sum(), point, retain_graph=True)
    assert of_sum.abs().max() < 1e-9
    (of_first,) = torch.autograd.grad(counts[:, 1].sum(), point)
    assert of_first.abs().max() > 0.1 and abs(float(of_first.sum())) < 1e-9 * float(of_first.abs().max())


@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_gradients_flow_through_every_part_of_the_selection(kind: type) -> None:
    for part in ("counts", "one_hot", "prefix_mask"):
        for group in range(3):
            point = torch.tensor([0.0, 1.6, 0.3], dtype=torch.float64, requires_grad=True)
            distribution = make(BY_NAME["middle-heavy"], kind=kind, temperature=0.7, log_weights=point)
            value = getattr(distribution.rsample_selection((50,), generator=generator(38)), part)[:, group]
            ladder = torch.arange(value[0].numel(), dtype=torch.float64).reshape(value[0].shape) + 1.0
            (value * ladder).sum().backward()
            assert torch.isfinite(point.grad).all() and point.grad.abs().max() > 1e-3


def test_the_prefix_mask_gradient_is_that_of_the_counts() -> None:
    """sum_j mask[j] = count holds in the backward pass as well."""
    for kind in (HARD, SOFT):
        gradients = []
        for part in ("counts", "prefix_mask"):
            point = torch.tensor([0.0, 1.6, 0.3], dtype=torch.float64, requires_grad=True)
            distribution = make(BY_NAME["twenty-each"], kind=kind, temperature=0.7, log_weights=point)
            value = getattr(distribution.rsample_selection((20,), generator=generator(39)), part)
            if part == "prefix_mask":
                value = value.sum(-1)
            (value * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
            gradients.append(point.grad)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_no_draw_has_a_fixed_order_of_groups() -> None:
    """Draw number 4 of six would always take one order of three groups, whose gradient is off by a tenth."""
    point = torch.zeros(3, dtype=torch.float64).expand(4000, 3).clone().requires_grad_()
    law = HARD(0.5, 5, [3, 5, 4], log_weights=point)
    gradients = [
        torch.autograd.grad(law.rsample((6,), generator=generator(5))[i, :, 0].sum(), point)[0] for i in range(6)
    ]
    means = torch.stack([gradient.mean(0) for gradient in gradients])
    errors = torch.stack([gradient.std(0) / 4000**0.5 for gradient in gradients])
    # 18 means within 5 standard errors of their average: chance fails once in 100,000.
    assert ((means - means.mean(0)).abs() < 5 * errors).all()
