"""The library on a device: its values beside the CPU's in float64, the law of its draws, and what its calls cost."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.distributions import kl_divergence

import mvhg

Law, StraightThrough = mvhg.MultivariateHypergeometric, mvhg.MultivariateHypergeometricStraightThrough
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # of a value, relative to max(1, |value|)
SMALLEST_P = 1e-6  # of a marginal's chi-square test; a right sampler falls below it in one of 80,000 runs


class Urn(NamedTuple):
    """Sizes, total count, batch of log weights, draws per law."""

    group_sizes: list[int]
    total_count: int
    batch: tuple[int, ...]
    draws: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        sizes, count = self.group_sizes, len(self.group_sizes)
        alike = len(set(sizes)) == 1
        of = f"{sizes[0]} x {count}" if alike else ", ".join(map(str, sizes))
        laws = f", batch {self.batch[0]}" if self.batch else ", one law"
        return f"m = {of}, n = {self.total_count}{laws}" + (f", {self.draws[0]:,} draws" if self.draws else "")

    def log_weights(self, scale: float = 2.0) -> Tensor:
        """The same whenever asked for, float64 on the CPU."""
        shape = (*self.batch, len(self.group_sizes))
        return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


URNS = (
    Urn([10, 10], 10, (64,)),
    Urn([3, 5, 4], 5, (64,)),
    Urn([200] * 3, 180, (), (10_000,)),
    Urn([128] * 10, 128, ()),
    Urn([0, 7, 20, 0], 9, (5,)),
)


def _values(urn: Urn, device: torch.device, dtype: torch.dtype, counts: Tensor) -> list[Tensor]:
    """Everything that the law knows of itself, and the gradient of its sum."""
    log_weights = urn.log_weights().to(device, dtype).requires_grad_(True)
    law = Law(urn.total_count, urn.group_sizes, log_weights=log_weights)
    other = Law(urn.total_count, urn.group_sizes, log_weights=0.5 * log_weights.detach())
    values = [law.log_prob(counts.to(device, dtype)), law.mean, law.variance, law.covariance_matrix]
    values += [law.log_partition, law.entropy(), kl_divergence(law, other), law.marginal_log_probs().exp()]
    gradient = torch.autograd.grad(sum(value.sum() for value in values[:7]), log_weights)[0]  # type: ignore[arg-type]
    assert all(value.device.type == device.type for value in values)
    return [value.detach().double().cpu() for value in (*values, law.mode, gradient)]


def value_checks(device: torch.device) -> Iterator[dict[str, Any]]:
    """A line per urn and dtype: the largest difference to the CPU's values in float64."""
    for urn in URNS:
        generator = torch.Generator().manual_seed(2)
        counts = Law(urn.total_count, urn.group_sizes, log_weights=urn.log_weights()).sample(generator=generator)
        right = _values(urn, torch.device("cpu"), torch.float64, counts)
        for dtype, tolerance in TOLERANCE.items():
            found = _values(urn, device, dtype, counts)
            worst = max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in zip(found, right, strict=True))
            work = f"values and gradients, {urn.words}, {str(dtype)[6:]}"
            yield {"work": work, "passed": worst <= tolerance, "figure": f"differ by {worst:.1e}"}


def draw_checks(device: torch.device, draws: int = 200_000) -> Iterator[dict[str, Any]]:
    """A line per class and temperature: whether draws have the right sum and follow the exact marginals."""
    sizes, total = [6, 9, 4, 8], 11
    log_weights = torch.tensor([0.5, -1.0, 1.2, 0.0], device=device)
    marginals = Law(total, sizes, log_weights=log_weights.double()).marginal_log_probs().exp().cpu()
    generator = torch.Generator(device).manual_seed(4)
    samplers = [("exact", Law(total, sizes, log_weights=log_weights).sample)]
    for temperature in (0.3, 2.0):
        law = StraightThrough(temperature, total, sizes, log_weights=log_weights)
        samplers.append((f"straight-through, temperature {temperature}", law.rsample))
    for name, sampler in samplers:
        counts = sampler((draws,), generator=generator).cpu()
        apart = float((counts.sum(-1) - total).abs().max())
        smallest = min(_p_value(counts[:, group], marginals[group]) for group in range(len(sizes)))
        figure = f"sums off by {apart:g}, smallest p-value of a marginal {smallest:.2g}"
        yield {"work": f"draws, {name}", "passed": apart == 0 and smallest > SMALLEST_P, "figure": figure}


def _p_value(counts: Tensor, law: Tensor) -> float:
    """Of a chi-square test; values that are expected less than five times are taken together."""
    expected = len(counts) * law
    observed = torch.bincount(counts.long(), minlength=len(law)).double()
    often = expected >= 5
    pairs = [torch.cat([part[often], part[~often].sum(0, keepdim=True)]) for part in (observed, expected)]
    return float(chisquare(*(part[pairs[1] > 0].numpy() for part in pairs), sum_check=False).pvalue)


def calls(device: torch.device) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The library's work by name, validation off and sizes as numbers."""
    for urn in URNS[:4]:
        log_weights = urn.log_weights().to(device, torch.float32).requires_grad_(True)
        settings: dict[str, Any] = {"log_weights": log_weights, "validate_args": False}
        law = Law(urn.total_count, urn.group_sizes, log_weights=log_weights.detach())
        counts = law.sample(urn.draws)

        def log_prob(urn: Urn = urn, settings: dict[str, Any] = settings, counts: Tensor = counts) -> None:
            Law(urn.total_count, urn.group_sizes, **settings).log_prob(counts).sum().backward()

        def sample(urn: Urn = urn, settings: dict[str, Any] = settings) -> Tensor:
            return Law(urn.total_count, urn.group_sizes, **settings).sample(urn.draws)

        def selection(temperature: float, urn: Urn = urn, settings: dict[str, Any] = settings) -> None:
            drawn = StraightThrough(temperature, urn.total_count, urn.group_sizes, **settings)
            drawn.rsample_selection(urn.draws).prefix_mask.square().sum().backward()

        yield f"log_prob, backward, {urn.words}", log_prob
        yield f"sample, {urn.words}", sample
        for temperature in (0.5, 2.0):
            name = f"selection, backward, {urn.words}, temperature {temperature}"
            yield name, partial(selection, temperature)


def call_costs(device: torch.device, repeats: int = 15) -> Iterator[dict[str, Any]]:
    """A line per call: milliseconds, waits for the device, and milliseconds of a replay from a CUDA graph."""
    for name, call in calls(device):
        call()
        call()
        waits = _waits(call) if device.type == "cuda" else 0
        taken = statistics.median(milliseconds(call, device) for _ in range(repeats))
        graph = _captured(call, repeats) if device.type == "cuda" else "no GPU"
        figure = f"{taken:.2f} ms, waits {waits} times, in a graph {graph}"
        yield {"work": name, "passed": waits == 0 and "not captured" not in graph, "figure": figure}


def milliseconds(call: Callable[[], Any], device: torch.device, times: int = 1) -> float:
    """Of a call, the mean over ``times``, until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / times


def _waits(call: Callable[[], Any]) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _captured(call: Callable[[], Any], repeats: int) -> str:
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            call()
            call()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            call()
        return f"{milliseconds(graph.replay, torch.device('cuda'), repeats):.3f} ms"
    except Exception as error:  # whatever a driver says
        torch.cuda.synchronize()
        return f"not captured ({type(error).__name__})"
