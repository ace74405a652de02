"""What a draw is asked for: how many, and by which noise."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mvhg._given import check_layout, is_8_bit
from mvhg._validation import can_look, describe

_MOST_ENTRIES = 1 << 33


def sample_size(sample_shape: Sequence[int]) -> torch.Size:
    """``sample_shape`` as a torch.Size.

    Raises:
        TypeError: it is no sequence of whole numbers.
        ValueError: a number is negative, or the draws are too many to count.
    """
    if torch.compiler.is_compiling():
        return torch.Size(sample_shape)
    try:
        shape = tuple(operator.index(number) for number in sample_shape)
    except TypeError:
        message = f"sample_shape must be a sequence of whole numbers, such as (3,), got {sample_shape!r}"
        raise TypeError(message) from None
    if any(number < 0 for number in shape):
        raise ValueError(f"sample_shape must not be negative, got {shape}")
    if math.prod(shape) >= 1 << 63:
        raise ValueError(f"sample_shape must be of fewer than 2^63 draws, got {shape}")
    return torch.Size(shape)


def check_generator(generator: Any) -> None:
    """Raises TypeError for a source of randomness that is none, such as a seed."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got {generator!r:.80}; of a seed, "
            "torch.Generator(device).manual_seed(seed) makes one"
        )


def check_selection(shape: torch.Size, largest: int) -> None:
    """Raises ValueError where one-hot vectors over 0..largest of counts of a shape fit no machine."""
    entries = shape.numel() * (largest + 1)
    if entries > _MOST_ENTRIES:
        raise ValueError(
            f"rsample_selection would have vectors of {entries:,} entries, more than {_MOST_ENTRIES:,}: group_sizes up "
            f"to {largest:,} for counts of shape {tuple(shape)}. Counts alone, by rsample, have no such limit"
        )


def given_noise(
    noise: Tensor, noise_shape: Callable[[], torch.Size], device: torch.device, check_values: bool | None
) -> Tensor:
    """Uniform numbers that a caller gave, in float64; 0 as the least positive one, whose logarithm is finite.

    Args:
        noise: what was given.
        noise_shape: says which shape it must have.
        device: that of the weights.
        check_values: whether to look at values, where that costs no wait for a device.

    Raises:
        ValueError: it is no tensor of real numbers on the weights' device, or has another shape or a value outside
            [0, 1).
    """
    expected = noise_shape()
    if not isinstance(noise, Tensor) or noise.shape != expected:
        got = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
        raise ValueError(f"noise must be a tensor of shape noise_shape(sample_shape) = {tuple(expected)}, got {got}")
    check_layout("noise", noise)
    if noise.device != device or not noise.is_floating_point() or is_8_bit(noise.dtype):
        raise ValueError(
            f"noise must be real numbers, best of float64, on the weights' device, {device}: got {noise.dtype} on "
            f"{noise.device}"
        )
    if check_values and can_look(noise):
        bad = ~((noise >= 0) & (noise < 1))
        if bool(bad.any()):
            raise ValueError(f"noise must be within [0, 1): {describe(noise, bad)}")
    return noise.double().clamp(min=torch.finfo(torch.float64).tiny)
