"""Sample shapes and noise that cannot be drawn by are refused by name, for every class that draws."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import mvhg

LOG_WEIGHTS = torch.zeros(4, 2)
BY_NOISE: dict[str, Callable[..., Any]] = {
    "relaxed": lambda **more: mvhg.RelaxedMultivariateHypergeometric(0.5, 5, [3, 5], log_weights=LOG_WEIGHTS, **more),
    "hard": lambda **more: mvhg.MultivariateHypergeometricStraightThrough(
        0.5, 5, [3, 5], log_weights=LOG_WEIGHTS, **more
    ),
    "partition": lambda **more: mvhg.RandomPartition(0.5, torch.zeros(4, 6), LOG_WEIGHTS, **more),
}
ALL = BY_NOISE | {
    "law": lambda **more: mvhg.MultivariateHypergeometric(5, [3, 5], log_weights=LOG_WEIGHTS, **more),
    "second order": lambda **more: mvhg.MultivariateHypergeometricSecondOrder(
        5, [3, 5], log_weights=LOG_WEIGHTS, **more
    ),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (3, TypeError, "sample_shape must be a sequence of whole numbers, such as (3,), got 3"),
        ((2.5,), TypeError, "sample_shape must be a sequence of whole numbers, such as (3,), got (2.5,)"),
        (None, TypeError, "sample_shape must be a sequence of whole numbers, such as (3,), got None"),
        ((2, -1), ValueError, "sample_shape must not be negative, got (2, -1)"),
        ((2**40, 2**40), ValueError, f"sample_shape must be of fewer than 2^63 draws, got {(2**40, 2**40)}"),
    ],
)
def test_a_sample_shape_is_a_sequence_of_numbers(name: str, shape: Any, error: type, message: str) -> None:
    draws = ALL[name]()
    methods = ["sample", "rsample", "rsample_selection", "noise_shape"]
    for method in (one for one in methods if hasattr(draws, one) and not (name == "law" and one == "rsample")):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            getattr(draws, method)(shape)


@pytest.mark.parametrize("name", ALL)
def test_a_sample_shape_may_be_any_sequence_and_a_generator_is_one(name: str) -> None:
    draws = ALL[name]()
    for method in (one for one in ("sample", "rsample") if getattr(draws, "has_rsample", True) or one == "sample"):
        draw = getattr(draws, method)
        for shape in (iter((2, 3)), [torch.tensor(2), 3], torch.tensor([2, 3])):
            assert draw(shape).shape[:2] == (2, 3)
        with pytest.raises(TypeError, match="^generator must be a torch.Generator or None, got 42; of a seed, "):
            draw(generator=42)


@pytest.mark.parametrize("name", BY_NOISE)
@pytest.mark.parametrize("value", [float("nan"), -1e-9, 1.0, 2.0])
def test_noise_is_within_0_and_1(name: str, value: float) -> None:
    draws = BY_NOISE[name]()
    noise = torch.rand(draws.noise_shape((3,)), dtype=torch.float64)
    draws.rsample((3,), noise=noise)
    noise[2, 1, 0] = value
    shown = re.escape(f"shape {tuple(noise.shape)}, bad values: {value:.12g}")
    with pytest.raises(ValueError, match=rf"^noise must be within \[0, 1\): {shown}$"):
        draws.rsample((3,), noise=noise)


@pytest.mark.parametrize("name", BY_NOISE)
def test_noise_is_a_tensor_of_its_shape(name: str) -> None:
    draws = BY_NOISE[name]()
    expected = tuple(draws.noise_shape((3,)))
    with pytest.raises(ValueError, match=re.escape(f"noise_shape(sample_shape) = {expected}, got {(3, *expected)}")):
        draws.rsample((3,), noise=torch.zeros(3, *expected))
    with pytest.raises(ValueError, match="^noise must be a tensor of shape .*, got list$"):
        draws.rsample((3,), noise=[0.5])


@pytest.mark.parametrize("name", BY_NOISE)
@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda noise: noise.to("meta"), "torch.float64 on meta"),
        (lambda noise: noise.to(torch.complex64), "torch.complex64 on cpu"),
        (lambda noise: noise.to(torch.complex128), "torch.complex128 on cpu"),
        (lambda noise: noise.long(), "torch.int64 on cpu"),
        (lambda noise: noise.bool(), "torch.bool on cpu"),
        (lambda noise: noise.to(torch.float8_e5m2), "torch.float8_e5m2 on cpu"),
        (lambda noise: noise.to_sparse(), "layout torch.sparse_coo"),
    ],
)
@pytest.mark.parametrize("validate_args", [True, False])
def test_noise_is_real_numbers_on_the_weights_device(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], got: str, validate_args: bool
) -> None:
    """What has no values there was taken for uninitialised memory."""
    draws = BY_NOISE[name](validate_args=validate_args)
    noise = change(torch.full(draws.noise_shape((3,)), 0.25, dtype=torch.float64))
    methods = [draws.rsample, draws.sample] if name == "relaxed" else [draws.rsample]
    if hasattr(draws, "rsample_selection"):
        methods.append(draws.rsample_selection)
    for method in (one for one in methods if "noise" in inspect.signature(one).parameters):
        with pytest.raises(ValueError, match=f"^noise must be .* got {got}$"):
            method((3,), noise=noise)


def test_the_law_itself_says_which_classes_have_a_gradient() -> None:
    law = ALL["law"]()
    assert not law.has_rsample
    with pytest.raises(NotImplementedError, match="MultivariateHypergeometricStraightThrough"):
        law.rsample((2,))
