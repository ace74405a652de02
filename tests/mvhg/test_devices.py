"""Devices: torch's default one changes nothing that is given, and what has no values is not asked for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

import mvhg
from mvhg._kept import CPU, Memory
from mvhg.pt_fmvhg import MVHG
from tests.mvhg.helpers import EXACT, HARD, SOFT, generator
from tests.mvhg.test_host_is_not_asked import watched

URNS = [((5,), 3), ((3, 5), 4), ((3, 5, 4), 5), ((2, 3, 1, 4), 5), ((70, 80, 61), 50), ((299, 300, 300, 300), 200)]


def everything(sizes: tuple[int, ...], n: int) -> list[Tensor]:
    """Draws, closed forms and gradients of weights on the CPU."""
    point = torch.linspace(0, 1, len(sizes), device="cpu").requires_grad_()
    found: list[Tensor] = []
    for kind in (HARD, SOFT):
        for shape, more in (((), {}), ((2,), {"conditionals": "merged"}), ((300,), {})):
            law = kind(0.5, n, sizes, log_weights=point, **more)
            found += law.rsample_selection(shape, generator=generator(1))
        found += kind(0.5, n, list(sizes), log_weights=point.repeat(3, 1)).rsample_selection(generator=generator(2))
    law = EXACT(torch.tensor([n, n - 1], device="cpu"), list(sizes), log_weights=point)
    counts = law.sample((4,), generator=generator(3))
    found += [law.mean, law.covariance_matrix, law.entropy(), law.log_prob(counts), law.marginal_log_probs().exp()]
    found += [kl_divergence(law, EXACT(law.total_count, list(sizes), log_weights=2 * point)), law.mode, counts]
    found += mvhg.MultivariateHypergeometricSecondOrder(n, sizes, log_weights=point).rsample_selection((2,))[1:]
    row = point[None]
    for conditionals in ("exact", "merged"):
        y, x, _, log_p = MVHG(conditionals=conditionals)(sizes, n, row, 0.5, add_noise=False)
        found += [*y, *x, log_p]
    found += [mvhg.RandomPartition(0.5, point.repeat(2), point).rsample((2,), generator=generator(4))]
    if n < 10:
        found += [EXACT(n, sizes, log_weights=point).enumerate_support()]
    (gradient,) = torch.autograd.grad(sum(f.square().sum() for f in found if f.requires_grad), point)
    return [f.detach() for f in (*found, gradient)]


@pytest.mark.parametrize("sizes, n", URNS, ids=str)
def test_the_default_device_changes_nothing_that_is_given(sizes: tuple[int, ...], n: int) -> None:
    """Nor does what is kept from calls within it change later ones."""
    torch.manual_seed(0)
    with torch.device("meta"):
        within = everything(sizes, n)
    torch.manual_seed(0)
    for one, other in zip(within, everything(sizes, n), strict=True):
        assert one.device.type == "cpu"
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_where_nothing_is_a_tensor_the_default_device_is_taken() -> None:
    with torch.device("meta"):
        laws = EXACT(5, [3, 5, 4]), HARD(0.5, 5, [3, 5, 4], weights=[1, 2, 3.0]), EXACT([5, 4], [[3, 5, 4]])
        assert {law.mean.device.type for law in laws} == {"meta"}
        fit = mvhg.fit_weights([[1, 2, 2], [2, 2, 1]], [3, 5, 4])
    assert torch.equal(fit.log_weights, mvhg.fit_weights([[1, 2, 2], [2, 2, 1]], [3, 5, 4]).log_weights)


@pytest.mark.parametrize("validate_args", [None, True, False])
def test_tensors_without_values_are_not_asked_for_them(validate_args: bool | None) -> None:
    point, temperature = torch.zeros(4, 3, device="meta"), torch.tensor(0.5, device="meta")
    more: dict[str, Any] = {"validate_args": validate_args}
    law = HARD(temperature, 5, [3, 5, 4], log_weights=point, **more)
    other = EXACT(5, [3, 5, 4], weights=point, **more)
    partition = mvhg.RandomPartition(temperature, torch.zeros(6, device="meta"), point, **more)
    for value in (law.rsample(), law.log_prob(law.sample()), partition.log_prob(partition.rsample())):
        assert value.device.type == "meta"
    assert kl_divergence(law, other).shape == (4,)


URN_WITHOUT_VALUES = {
    "sizes": (5, torch.empty(3, dtype=torch.int64, device="meta")),
    "total": (torch.empty((), dtype=torch.int64, device="meta"), [3, 5, 4]),
    "both": (torch.empty((), device="meta"), torch.empty(3, device="meta")),
}


@pytest.mark.parametrize("validate_args", [None, False])
@pytest.mark.parametrize("name", URN_WITHOUT_VALUES)
@pytest.mark.parametrize("kind", [EXACT, SOFT, HARD, mvhg.MultivariateHypergeometricSecondOrder])
def test_sizes_and_totals_that_must_be_read_have_values(kind: type, name: str, validate_args: bool | None) -> None:
    message = "^group_sizes and total_count must have values here, got tensors on the meta device: give numbers, "
    urn, more = URN_WITHOUT_VALUES[name], {"validate_args": validate_args}
    head = (0.5,) if kind in (HARD, SOFT) else ()
    with pytest.raises(ValueError, match=message):
        kind(*head, *urn, log_weights=torch.zeros(3), **more)
    law = kind(*head, *urn, log_weights=torch.zeros(3, device="meta"), **more)
    asked: list[Any] = [law.sample]
    if kind is not EXACT:
        asked += [law.rsample, law.rsample_selection]
    if kind is not SOFT:
        asked += [law.entropy, law.marginal_log_probs, law.enumerate_support, lambda: kl_divergence(law, law)]
        assert law.mean.shape == law.mode.shape == (3,) and law.log_partition.shape == ()
    for ask in asked:
        with pytest.raises(ValueError, match=message):
            ask()


def test_other_arguments_that_must_be_read_have_values() -> None:
    without = torch.empty(3, device="meta")
    for names, ask in (
        ("temperature", lambda: HARD(without[0], 5, [3, 5, 4], log_weights=torch.zeros(3))),
        ("temperature", lambda: mvhg.RandomPartition(without[0], torch.zeros(3), torch.zeros(3))),
        ("counts and group_sizes", lambda: mvhg.fit_weights(without, [3, 5, 4])),
        ("counts and group_sizes", lambda: mvhg.fit_weights([3, 5, 4], without)),
        ("m_all and n", lambda: MVHG()(without, 5, torch.zeros(2, 3), 0.5)),
        ("m_all and n", lambda: MVHG()([3, 5, 4], without[0], torch.zeros(2, 3), 0.5)),
    ):
        with pytest.raises(ValueError, match=f"^{names} must have values here, got tensors on the meta device"):
            ask()


def test_a_divergence_of_an_urn_known_on_one_side_alone(blind: None) -> None:
    for sizes, n in (([3, 5], 4), ([3, 5, 4], 5)):
        known = EXACT(n, sizes, log_weights=torch.zeros(len(sizes)))
        other = EXACT(torch.tensor(n), torch.tensor(sizes), log_weights=torch.linspace(0, 1, len(sizes)))
        assert known._known_bounds is not None and other._known_bounds is None
        expected = kl_divergence(known, EXACT(n, sizes, log_weights=other.log_weights))
        torch.testing.assert_close(kl_divergence(known, other), expected)
        assert float(kl_divergence(other, known)) > 0


def test_a_temperature_is_read_together_with_the_weights(blind: None) -> None:
    point, temperature = torch.zeros(4, 3), torch.tensor([0.5, 1.0, 2.0, 4.0])
    with watched("cpu") as found:
        HARD(temperature, torch.tensor([5, 4, 3, 2]), torch.tensor([[3, 5, 4]] * 4), log_weights=point)
    assert len(found) == 1
    for bad in (-temperature, temperature * torch.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            HARD(bad, 5, [3, 5, 4], log_weights=point)
    with pytest.raises(ValueError, match="log_scores must be finite"):
        mvhg.RandomPartition(temperature[0], torch.tensor([0.0, torch.nan]), torch.zeros(2))


def test_what_is_kept_is_kept_by_many_threads() -> None:
    memory: Memory[int] = Memory(3)
    failed: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for key in range(first, first + 3_000):
                memory.keep(key, CPU, key)
                assert memory.get(key, CPU) in (key, None)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(1_000_000 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(memory._values) == 3
