"""Encoder and decoder: sizes, TensorFlow's padding and initialisation, and their values against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.experiments.weak_supervision_fits import generator, make_model
from tests.experiments.weak_supervision_reference import decode, encode, parameters_of

pytestmark = pytest.mark.usefixtures("one_thread")

# Shapes by hand: (inputs, outputs, receptive field) of every layer, TensorFlow's order of the fans.
CONVOLUTIONS = {64: [(3, 32, 16), (32, 32, 16), (32, 64, 4), (64, 64, 4)], 32: [(3, 32, 16), (32, 32, 16), (32, 64, 4)]}
TRANSPOSED = {
    64: [(64, 64, 16), (64, 32, 16), (32, 32, 16), (32, 3, 16)],
    32: [(64, 32, 16), (32, 32, 16), (32, 3, 16)],
}
DENSE = [(1024, 256, 1), (256, 20, 1), (10, 256, 1), (256, 1024, 1)]


def layers_of(size: int) -> list[tuple[int, int, int]]:
    return [*CONVOLUTIONS[size], *DENSE, *TRANSPOSED[size]]


def with_biases(module: torch.nn.Module) -> torch.nn.Module:
    """Biases that aren't 0, so that a misplaced one shows."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2, generator=generator())
    return module


def views(batch: int, size: int) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=generator())


def test_the_networks_have_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in make_model("label_vae", 64).parameters()) == 692_567


@pytest.mark.parametrize("size", [64, 32])
def test_layers_have_the_sizes_of_the_table(size: int) -> None:
    weights = [value for name, value in make_model("label_vae", size).named_parameters() if name.endswith("weight")]
    biases = [value for name, value in make_model("label_vae", size).named_parameters() if name.endswith("bias")]
    table = layers_of(size)
    assert sorted(weight.numel() for weight in weights) == sorted(math.prod(layer) for layer in table)
    assert sorted(bias.numel() for bias in biases) == sorted(outputs for _, outputs, _ in table)


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_networks_are_those_of_the_published_code(size: int, layout: torch.memory_format) -> None:
    model = with_biases(make_model("label_vae", size)).to(memory_format=layout)  # type: ignore[call-overload]
    images = views(4, size)
    with torch.no_grad():
        mean, log_variance = model.encode(images.contiguous(memory_format=layout))
        latents = 10 * torch.randn(4, 10, generator=generator())
        pixels = torch.sigmoid(model.decode(latents))
    assert mean.shape == log_variance.shape == (4, 10)
    assert pixels.shape == images.shape
    parameters = parameters_of(model)
    expected_mean, expected_variance = encode(parameters, images.double().numpy())
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_variance.exp(), expected_variance, rtol=1e-4)
    np.testing.assert_allclose(pixels, decode(parameters, latents.double().numpy()), rtol=1e-4)
    assert pixels.std(0).max() > 0.01, "the latents matter"


@pytest.mark.parametrize("size", [64, 32])
def test_weights_start_uniform_within_glorots_bounds_and_biases_at_zero(size: int) -> None:
    """A standard deviation over n weights has a relative error of 0.45 / sqrt(n): five of them fail once in 10^6."""
    bounds = [math.sqrt(6 / (field * (inputs + outputs))) for inputs, outputs, field in layers_of(size)]
    numbers = [math.prod(layer) for layer in layers_of(size)]
    seen = 0
    for name, value in make_model("label_vae", size).named_parameters():
        if name.endswith("bias"):
            assert not value.any(), name
            continue
        bound = next(bound for bound, number in zip(bounds, numbers) if number == value.numel() and fits(value, bound))
        assert value.std().item() == pytest.approx(bound / math.sqrt(3), rel=5 * 0.45 / math.sqrt(value.numel())), name
        assert abs(value.mean().item()) < 5 * bound / math.sqrt(3 * value.numel()), name
        seen += 1
    assert seen == len(bounds)


def fits(weights: Tensor, bound: float) -> bool:
    largest = weights.abs().max().item()
    return 0.98 * bound < largest <= bound * (1 + 1e-6)
