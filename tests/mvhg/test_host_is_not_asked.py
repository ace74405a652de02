"""Draws that leave the device alone: no value is read back, nothing is copied over, and torch.compile sees one graph.

Tensors on torch's "meta" device have no values: whatever would wait for a device to hand one over raises there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mvhg
from tests.mvhg.helpers import compiles_whole, generator

HARD = mvhg.MultivariateHypergeometricStraightThrough
SOFT = mvhg.RelaxedMultivariateHypergeometric
URNS = [((10, 10), 10), ((3, 5, 4), 5), ((0, 5, 4), 5), ((200,) * 3, 180), ((128,) * 10, 128), ((1000, 5, 5), 100)]
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero"}


class Watch(TorchDispatchMode):
    """Collects what would make the host wait for the device, or copy to it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        devices = {t.device.type for t in tensors}
        target = kwargs.get("device")
        crossing = name in ("_to_copy", "copy_") and (
            len(devices) > 1 or (target is not None and {torch.device(target).type} != devices)
        )
        aimed = target is not None and torch.device(target).type == "meta"
        if ("meta" in devices and name in READS) or (crossing and (aimed or "meta" in devices)):
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
def watched() -> Iterator[list[str]]:
    watch = Watch()
    with NoConstants(watch.found), watch:
        yield watch.found


def weights(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, device="meta", requires_grad=True)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 2.0, 10.0, 100.0])
@pytest.mark.parametrize("kind", [HARD, SOFT])
@pytest.mark.parametrize("sizes, n", URNS)
def test_draws_read_nothing_from_the_device(sizes: tuple[int, ...], n: int, kind: type, temperature: float) -> None:
    for batch, sample in (((4,), ()), ((), (3,)), ((), (100,))):
        if kind is SOFT and sample == (100,):
            continue
        point = weights((*batch, len(sizes)))
        with watched() as found:
            law = kind(temperature, n, list(sizes), log_weights=point, validate_args=False)
            counts, one_hot, prefix_mask = law.rsample_selection(sample)
            (counts.sum() + prefix_mask.square().sum() + one_hot.square().sum()).backward()
            law.rsample(sample).sum().backward()
            drawn = law.sample(sample)
        assert found == []
        assert counts.shape == drawn.shape == (*sample, *batch, len(sizes))
        assert point.grad.shape == point.shape


@pytest.mark.parametrize("conditionals, order", [("exact", (2, 0, 1)), ("merged", None), ("merged", (2, 0, 1))])
def test_given_orders_and_merged_draws_read_nothing_either(conditionals: str, order: tuple[int, ...] | None) -> None:
    for kind in (HARD, SOFT):
        point = weights((4, 3))
        with watched() as found:
            law = kind(
                2.0, 5, [3, 5, 4], log_weights=point, conditionals=conditionals, group_order=order, validate_args=False
            )
            law.rsample_selection((7,)).prefix_mask.square().sum().backward()
            law.sample((7,))
        assert found == []


@pytest.mark.parametrize(
    "n, sizes, temperature",
    [
        (5, np.array([3, 5, 4]), 0.5),
        (torch.tensor(5), torch.tensor([3, 5, 4]), torch.tensor(0.5)),
        (np.int64(5), (3, 5, 4), np.float32(0.5)),
    ],
)
def test_whatever_the_host_knows_is_not_read_back(n: Any, sizes: Any, temperature: Any) -> None:
    point = weights((4, 3))
    law = HARD(temperature, n, sizes, log_weights=point, validate_args=False)
    with watched() as found:
        law.rsample_selection().prefix_mask.square().sum().backward()
        law.sample()
    assert found == []


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
