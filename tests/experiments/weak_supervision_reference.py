"""VAEs of image pairs in NumPy and float64, written from the formulas: networks, divergences, averages, bound, sort.

It reads the parameters of a model by their names and shares no code with it. Convolutions follow TensorFlow's own
definition of the padding "SAME"; a transposed convolution is the transpose of one, written as a scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from torch import nn

Array = np.ndarray
Parameters = dict[str, Array]


def parameters_of(model: nn.Module) -> Parameters:
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's documentation has it."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(images: Array, weight: Array, bias: Array, stride: int = 2) -> Array:
    """[batch, in, height, width] with [out, in, kernel, kernel] to [batch, out, height / 2, width / 2]."""
    kernel, sides = weight.shape[-1], [same_padding(size, weight.shape[-1], stride) for size in images.shape[2:]]
    padded = np.pad(images, [(0, 0), (0, 0), *sides])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True) + bias[:, None, None]


def convolve_transposed(images: Array, weight: Array, bias: Array, stride: int = 2) -> Array:
    """[batch, in, height, width] with [in, out, kernel, kernel] to [batch, out, 2 height, 2 width]."""
    batch, _, height, width = images.shape
    kernel = weight.shape[-1]
    before, after = same_padding(height * stride, kernel, stride)
    full = np.zeros((batch, weight.shape[1], height * stride + before + after, width * stride + before + after))
    for i in range(kernel):
        for j in range(kernel):
            part = np.einsum("bchw,co->bohw", images, weight[:, :, i, j], optimize=True)
            full[:, :, i : i + stride * height : stride, j : j + stride * width : stride] += part
    cut = full[:, :, before : before + stride * height, before : before + stride * width]
    return cut + bias[:, None, None]


def rectify(values: Array) -> Array:
    return np.maximum(values, 0)


def layers(parameters: Parameters, prefix: str) -> Iterator[tuple[Array, Array]]:
    """Weights and biases below a prefix, in order."""
    names = [name.removesuffix(".weight") for name in parameters if name.startswith(prefix) and "weight" in name]
    yield from ((parameters[f"{name}.weight"], parameters[f"{name}.bias"]) for name in names)


def encode(parameters: Parameters, images: Array) -> tuple[Array, Array]:
    """Means and variances [batch, latents] of [batch, channels, height, width]."""
    values = images
    for weight, bias in layers(parameters, "encoder.convolutions"):
        values = rectify(convolve(values, weight, bias))
    ((weight, bias),) = layers(parameters, "encoder.hidden")
    values = rectify(values.reshape(len(values), -1) @ weight.T + bias)
    ((weight, bias),) = layers(parameters, "encoder.heads")
    latents = len(bias) // 2
    heads = values @ weight.T + bias
    return heads[:, :latents], np.exp(heads[:, latents:])


def decode(parameters: Parameters, latents: Array) -> Array:
    """Probabilities of the pixels [batch, channels, height, width]."""
    values = latents
    for weight, bias in layers(parameters, "decoder.dense"):
        values = rectify(values @ weight.T + bias)
    values = values.reshape(len(values), -1, 4, 4)
    stages = list(layers(parameters, "decoder.convolutions"))
    for weight, bias in stages[:-1]:
        values = rectify(convolve_transposed(values, weight, bias))
    return 1 / (1 + np.exp(-convolve_transposed(values, *stages[-1])))


def normal_divergence(mean: Array, variance: Array, other_mean: Array, other_variance: Array) -> Array:
    """KL(N(mean, variance) || N(other_mean, other_variance)) of scalars, element by element."""
    ratio = np.sqrt(other_variance) / np.sqrt(variance)
    return np.log(ratio) + (variance + (mean - other_mean) ** 2) / (2 * other_variance) - 0.5


def symmetric_divergence(mean: Array, variance: Array) -> Array:
    """[pairs, latents] of views [2, pairs, latents]."""
    forward = normal_divergence(mean[0], variance[0], mean[1], variance[1])
    backward = normal_divergence(mean[1], variance[1], mean[0], variance[0])
    return (forward + backward) / 2


def aggregate(mean: Array, variance: Array, independent: Array, averaging: str) -> tuple[Array, Array]:
    """Equations 50 and 51, latent by latent; another weight than 0 and 1 mixes means and log variances."""
    new_mean, new_variance = mean.copy(), variance.copy()
    for pair, latent in np.ndindex(*independent.shape):
        (m1, m2), (v1, v2), w = mean[:, pair, latent], variance[:, pair, latent], independent[pair, latent]
        if averaging == "arithmetic":
            m, v = (m1 + m2) / 2, (v1 + v2) / 2
        else:
            v = 1 / (1 / v1 + 1 / v2)
            m = v * (m1 / v1 + m2 / v2)
        for view in range(2):
            new_mean[view, pair, latent] = w * mean[view, pair, latent] + (1 - w) * m
            new_variance[view, pair, latent] = variance[view, pair, latent] ** w * v ** (1 - w)
    return new_mean, new_variance


class Bound(NamedTuple):
    """Nats per image."""

    reconstruction: float
    divergence: float


def bound(
    parameters: Parameters, images: Array, noise: Array, independent: Array, averaging: str, objective: str
) -> Bound:
    """The terms of the bound.

    Args:
        parameters: of the model, by name.
        images: [2 * pairs, channels, height, width], all first views first.
        noise: standard normal [2, pairs, latents].
        independent: [pairs, latents].
        averaging: ``arithmetic`` or ``product_of_experts``.
        objective: ``per_view`` or ``joint``.
    """
    pairs = len(images) // 2
    mean, variance = (values.reshape(2, pairs, -1) for values in encode(parameters, images))
    mean, variance = aggregate(mean, variance, independent, averaging)
    latents = mean + np.sqrt(variance) * noise
    pixels = decode(parameters, latents.reshape(2 * pairs, -1))
    log_likelihood = images * np.log(pixels) + (1 - images) * np.log(1 - pixels)
    divergences = normal_divergence(mean, variance, np.zeros(1), np.ones(1))  # [2, pairs, latents]
    total = 0.0
    for pair, latent in np.ndindex(*independent.shape):
        both = divergences[0, pair, latent] + divergences[1, pair, latent]
        w = independent[pair, latent]
        # A shared latent's two divergences are equal: the pair's bound has one of them, or both.
        total += both if objective == "per_view" else w * both + (1 - w) * both / 2
    return Bound(float(log_likelihood.sum() / len(images)), total / len(images))


def neural_sort(scores: Array, temperature: float) -> Array:
    """Grover et al. 2019, Eq. 5: row i is softmax[((n + 1 - 2i) s - A_s 1) / tau], A_s[i, j] = |s_i - s_j|."""
    n = len(scores)
    pairwise = np.array([[abs(a - b) for b in scores] for a in scores])
    rows = []
    for i in range(1, n + 1):
        logits = ((n + 1 - 2 * i) * scores - pairwise @ np.ones(n)) / temperature
        weights = np.exp(logits - logits.max())
        rows.append(weights / weights.sum())
    return np.array(rows)


def law_of_counts(latents: int, odds: Fraction) -> list[Fraction]:
    """Probabilities of k = 0..d independent marbles among d drawn from d of each kind, of weights ``odds`` and 1."""
    weights = [math.comb(latents, k) * math.comb(latents, latents - k) * odds**k for k in range(latents + 1)]
    return [weight / sum(weights) for weight in weights]
