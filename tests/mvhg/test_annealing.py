"""The exponential temperature schedule of Section C.2.3."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

import mvhg


def test_initial_final_and_constant_after() -> None:
    schedule = mvhg.ExponentialAnnealing(initial=10.0, final=0.01, num_steps=50_000)
    assert schedule(0) == pytest.approx(10.0, rel=1e-12)
    assert schedule(50_000) == pytest.approx(0.01, rel=1e-12)
    assert schedule(50_001) == schedule(10**9) == schedule(50_000)


@pytest.mark.parametrize(
    "initial, final, num_steps", [(10.0, 0.01, 50_000), (1.0, 0.5, 7), (0.1, 2.0, 30), (1.0, 1.0, 5)]
)
def test_formula(initial: float, final: float, num_steps: int) -> None:
    schedule = mvhg.ExponentialAnnealing(initial, final, num_steps)
    rate = (math.log(initial) - math.log(final)) / num_steps
    values = [schedule(step) for step in range(0, num_steps + 1, max(1, num_steps // 50))]
    expected = [initial * math.exp(-rate * step) for step in range(0, num_steps + 1, max(1, num_steps // 50))]
    assert values == pytest.approx(expected, rel=1e-12)
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert all((ratio < 1) == (final < initial) and (ratio > 1) == (final > initial) for ratio in ratios)
    assert all(isinstance(value, float) for value in values)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((0.0, 0.1, 10), "initial"),
        ((-1.0, 0.1, 10), "initial"),
        ((math.nan, 0.1, 10), "initial"),
        ((math.inf, 0.1, 10), "initial"),
        ((1.0, 0.0, 10), "final"),
        ((1.0, -0.1, 10), "final"),
        ((1.0, math.nan, 10), "final"),
        ((1.0, 0.1, 0), "num_steps"),
        ((1.0, 0.1, -5), "num_steps"),
        ((1.0, 0.1, 2.5), "num_steps"),
        ((10**400, 0.1, 10), "initial"),
        (("1", 0.1, 10), "initial"),
        ((1.0, None, 10), "final"),
        ((1.0, 0.1, 10**400), "num_steps"),
        ((1.0, 0.1, "10"), "num_steps"),
    ],
)
def test_bad_settings(arguments: tuple[Any, ...], name: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        mvhg.ExponentialAnnealing(*arguments)


@pytest.mark.parametrize("step", [-1, math.nan, "3", None])
def test_a_bad_step_is_an_error(step: Any) -> None:
    with pytest.raises(ValueError, match=r"\bstep\b"):
        mvhg.ExponentialAnnealing(1.0, 0.1, 10)(step)
