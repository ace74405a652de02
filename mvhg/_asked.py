"""What a draw is asked for: how many, and by which noise."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mvhg._validation import can_look, describe


def sample_size(sample_shape: Sequence[int]) -> torch.Size:
    """``sample_shape`` as a torch.Size.

    Raises:
        TypeError: it is no sequence of whole numbers.
        ValueError: a number is negative.
    """
    if torch.compiler.is_compiling():
        return torch.Size(sample_shape)
    try:
        shape = torch.Size(sample_shape)
    except TypeError:
        message = f"sample_shape must be a sequence of whole numbers, such as (3,), got {sample_shape!r}"
        raise TypeError(message) from None
    if any(number < 0 for number in shape):
        raise ValueError(f"sample_shape must not be negative, got {tuple(shape)}")
    return shape


def given_noise(noise: Tensor, noise_shape: Callable[[], torch.Size], check_values: bool | None) -> Tensor:
    """Uniform numbers that a caller gave, in float64.

    Args:
        noise: what was given.
        noise_shape: says which shape it must have.
        check_values: whether to look at values, where that costs no wait for a device.

    Raises:
        ValueError: it is no tensor, or has another shape or a value outside [0, 1).
    """
    expected = noise_shape()
    if not isinstance(noise, Tensor) or noise.shape != expected:
        got = tuple(noise.shape) if isinstance(noise, Tensor) else type(noise).__name__
        raise ValueError(f"noise must be a tensor of shape noise_shape(sample_shape) = {tuple(expected)}, got {got}")
    if check_values and can_look(noise):
        bad = ~((noise >= 0) & (noise < 1))
        if bool(bad.any()):
            raise ValueError(f"noise must be within [0, 1): {describe(noise, bad)}")
    return noise.double()
