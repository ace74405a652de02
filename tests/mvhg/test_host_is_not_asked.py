"""The device is left alone: no value is read back, nothing is copied over, and torch.compile sees one graph of draws.

Tensors on torch's "meta" device have no values: whatever would wait for a device to hand one over raises there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.mvhg.helpers import EXACT, HARD, SOFT, compiles_whole, generator

URNS = [((10, 10), 10), ((3, 5, 4), 5), ((0, 5, 4), 5), ((200,) * 3, 180), ((128,) * 10, 128), ((1000, 5, 5), 100)]
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero"}


class Watch(TorchDispatchMode):
    """Collects what would make the host wait for the device, or copy to it."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.device = device

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        devices = {t.device.type for t in tensors}
        target = kwargs.get("device")
        crossing = name in ("_to_copy", "copy_") and (
            len(devices) > 1 or (target is not None and {torch.device(target).type} != devices)
        )
        aimed = target is not None and torch.device(target).type == self.device
        if (self.device in devices and name in READS) or (crossing and (aimed or self.device in devices)):
            self.found.append(name)
        return function(*args, **kwargs)


class NoConstants(TorchFunctionMode):
    """Numbers of the host made a device's tensor are a copy, which modes of dispatch do not see."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        device = kwargs.get("device")
        aimed = device is not None and torch.device(device).type == "meta"
        given = args[0] if args else None
        if name in ("tensor", "as_tensor") and aimed and getattr(given, "device", None) != torch.device("meta"):
            self.found.append(name)
        if name == "new_tensor" and args[0].device.type == "meta":
            self.found.append(name)
        return function(*args, **kwargs)


@contextmanager
def watched(device: str = "meta") -> Iterator[list[str]]:
    """What is found; on a CPU, where tensors have values, reads alone."""
    watch = Watch(device)
    with NoConstants(watch.found), watch:
        yield watch.found


def weights(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, device="meta", requires_grad=True)


DRAWS: list[tuple[int, Sequence[int], float, dict[str, Any]]] = [
    *((n, sizes, temperature, {}) for sizes, n in URNS for temperature in (0.01, 0.5, 2.0, 10.0, 100.0)),
    (5, [3, 5, 4], 2.0, {"group_order": (2, 0, 1)}),
    (5, [3, 5, 4], 2.0, {"conditionals": "merged"}),
    (5, [3, 5, 4], 2.0, {"conditionals": "merged", "group_order": (2, 0, 1)}),
]


@pytest.mark.parametrize("n, sizes, temperature, more", DRAWS)
@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_draws_read_nothing_from_the_device(
    kind: type, n: int, sizes: Sequence[int], temperature: float, more: dict[str, Any]
) -> None:
    for batch, sample in (((4,), ()), ((), (3,)), ((), (100,))):
        if kind is SOFT and sample == (100,):
            continue
        point = weights((*batch, len(sizes)))
        with watched() as found:
            law = kind(temperature, n, sizes, log_weights=point, validate_args=False, **more)
            counts, one_hot, prefix_mask = law.rsample_selection(sample)
            (counts.sum() + prefix_mask.square().sum() + one_hot.square().sum()).backward()
            law.rsample(sample).sum().backward()
            drawn = law.sample(sample)
        assert found == []
        assert counts.shape == drawn.shape == (*sample, *batch, len(sizes))
        assert point.grad.shape == point.shape


@pytest.mark.parametrize(
    "n, sizes, temperature",
    [
        (5, np.array([3, 5, 4]), 0.5),
        (torch.tensor(5), torch.tensor([3, 5, 4]), torch.tensor(0.5)),
        (np.int64(5), (3, 5, 4), np.float32(0.5)),
    ],
)
def test_whatever_the_host_knows_is_not_read_back(n: Any, sizes: Any, temperature: Any) -> None:
    law = HARD(temperature, n, sizes, log_weights=weights((4, 3)), validate_args=False)
    with watched() as found:
        law.rsample_selection().prefix_mask.square().sum().backward()
        law.sample()
    assert found == []


LAW: dict[str, Callable[[Any, Any], torch.Tensor]] = {
    "log_prob": lambda law, other: law.log_prob(torch.empty(4, law.event_shape[0], device="meta")),
    "log_partition": lambda law, other: law.log_partition,
    "mean": lambda law, other: law.mean,
    "variance": lambda law, other: law.variance,
    "covariance_matrix": lambda law, other: law.covariance_matrix,
    "entropy": lambda law, other: law.entropy(),
    "marginal_log_probs": lambda law, other: law.marginal_log_probs(),
    "kl": kl_divergence,
}


@pytest.mark.parametrize("sizes", [[3, 5], [3, 5, 4], (3, 5, 4)], ids=str)
@pytest.mark.parametrize("name", LAW)
def test_closed_forms_read_nothing_from_the_device(name: str, sizes: Sequence[int]) -> None:
    point, other = weights((4, len(sizes))), weights((len(sizes),))
    with watched() as found:
        laws = [HARD(2.0, 5, sizes, log_weights=one, validate_args=False) for one in (point, other)]
        LAW[name](*laws).sum().backward()
    assert found == []
    assert point.grad.shape == point.shape


def test_validation_reads_once_a_construction_and_once_a_value(blind: None) -> None:
    point, counts = torch.zeros(4, 3), torch.tensor([1.0, 2.0, 2.0])
    with watched("cpu") as found:
        law = HARD(0.5, 5, [3, 5, 4], log_weights=point)
    assert len(found) == 1
    with watched("cpu") as found:
        law.log_prob(counts)
    assert len(found) == 1
    tensors = (torch.tensor([5, 4, 3, 2]), torch.tensor([[3, 5, 4]] * 4))
    with watched("cpu") as found:
        EXACT(*tensors, log_weights=point)
    assert len(found) == 1


def test_the_watch_sees_a_read() -> None:
    device = torch.empty(3, device="meta")
    with watched() as found, pytest.raises((RuntimeError, NotImplementedError)):
        float(device.sum())
    with watched() as other:
        torch.tensor([1.0, 2.0], device="meta")
        torch.zeros(2).to("meta")
    assert found == ["_local_scalar_dense"] and other == ["tensor", "_to_copy"]


@pytest.mark.filterwarnings("default")  # the compiler's own warnings are not the library's
@pytest.mark.parametrize("kind", [HARD, SOFT])
@pytest.mark.parametrize("sizes, n, temperature", [((10, 10), 10, 0.1), ((3, 5, 4), 5, 2.0), ((70, 80, 70), 60, 50.0)])
@compiles_whole
def test_draws_compile_to_one_graph(kind: type, sizes: tuple[int, ...], n: int, temperature: float) -> None:
    torch._dynamo.reset()

    def draw(point: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        law = kind(temperature, n, list(sizes), log_weights=point, validate_args=False)
        counts, one_hot, prefix_mask = law.rsample_selection(noise=noise)
        return counts[..., 0].sum() + (prefix_mask * one_hot[..., 1:]).sum()

    point = torch.randn(4, len(sizes), dtype=torch.float64, generator=generator(1))
    shape = kind(temperature, n, list(sizes), log_weights=point).noise_shape()
    noise = torch.rand(shape, dtype=torch.float64, generator=generator(2))
    results = []
    for function in (draw, torch.compile(draw, backend="aot_eager", fullgraph=True)):
        leaf = point.clone().requires_grad_()
        value = function(leaf, noise)
        value.backward()
        results += [value.detach(), leaf.grad]
    torch.testing.assert_close(results[0], results[2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(results[1], results[3], rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("default")  # the compiler's own warnings are not the library's
@pytest.mark.parametrize("sizes, n", [((3, 5, 4), 5), ((300, 300), 300)])
@compiles_whole
def test_draws_compile_to_one_graph_as_the_temperature_is_annealed(sizes: tuple[int, ...], n: int) -> None:
    torch._dynamo.reset()

    def draw(point: torch.Tensor, temperature: float, noise: torch.Tensor) -> torch.Tensor:
        return HARD(temperature, n, list(sizes), log_weights=point).rsample(noise=noise)

    compiled = torch.compile(draw, backend="aot_eager", fullgraph=True)
    point = torch.randn(4, len(sizes), dtype=torch.float64, generator=generator(1))
    for temperature in (2.0, 1.5, 0.5):  # from the second on a symbol
        shape = HARD(temperature, n, list(sizes), log_weights=point).noise_shape()
        noise = torch.rand(shape, dtype=torch.float64, generator=generator(2))
        assert torch.equal(compiled(point, temperature, noise), draw(point, temperature, noise))
