"""The library on a device: its values beside the CPU's in float64, the law of its draws, and what its calls cost."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

import mvhg
from experiments.kolmogorov_smirnov.goodness_of_fit import against_law
from experiments.speed.calls import URNS, Urn, every_call
from experiments.speed.measure import in_turns, seconds_of

Law, StraightThrough = mvhg.MultivariateHypergeometric, mvhg.MultivariateHypergeometricStraightThrough
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # of a value, relative to max(1, |value|)
SMALLEST_P = 1e-6  # of a marginal's chi-square test; a right sampler falls below it in one of 80,000 runs


CHECKED = (*URNS, Urn((0, 7, 20, 0), 9, (5,)))


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
    for urn in CHECKED:
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
    """Of a chi-square test of whole counts [draws] against probabilities [values]."""
    histogram = torch.bincount(counts.long(), minlength=len(law)).numpy()
    return against_law(histogram, law.numpy(), 0.05)["chi_square_p_value"]


def call_costs(device: torch.device, repeats: int = 15) -> Iterator[dict[str, Any]]:
    """A line per call: milliseconds, waits for the device, and milliseconds of a replay from a CUDA graph."""
    on_gpu = device.type == "cuda"
    for urn, temperature, name, call in every_call(device):
        taken = 1000 * statistics.median(in_turns({"": call}, repeats)[""])
        waits, graph = (_waits(call), _captured(call)) if on_gpu else (0, "no GPU")
        work = f"{name}, {urn.words}, temperature {temperature}"
        figure = f"{taken:.2f} ms, waits {waits} times, in a graph {graph}"
        yield {"work": work, "passed": waits == 0 and "not captured" not in graph, "figure": figure}


def _waits(call: Callable[[], Any]) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _captured(call: Callable[[], Any]) -> str:
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            call()
            call()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            call()
        return f"{1000 * seconds_of(graph.replay, shortest=0.02):.3f} ms"
    except Exception as error:  # whatever a driver says
        torch.cuda.synchronize()
        return f"not captured ({type(error).__name__})"
