"""``mvhg.keras`` on each backend that is installed, against the oracle, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mvhg.helpers import FAILURE_RATE

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("torch", "tensorflow", "jax", "jax64")


def run(backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    name = backend.removesuffix("64")
    environment = os.environ | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    environment |= {"JAX_ENABLE_X64": "1"} if backend == "jax64" else {}
    command = [sys.executable, *arguments]
    # JAX takes a minute of one thread, most of it compiling, and several times that beside other work.
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


def need(backend: str) -> None:
    for package in ("keras", backend.removesuffix("64")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("backend", BACKENDS)
def test_law_draws_and_gradients(backend: str) -> None:
    """Two chi-square tests a dtype, each of which fails by chance once in 1e5 seeds."""
    need(backend)
    done = run(backend, "tests/mvhg/keras_checks.py")
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    expected = ["float32"] if backend == "jax" else ["float64", "float32"]
    assert list(found["closed_forms"]) == expected
    for dtype in expected:
        for name, value in found["closed_forms"][dtype].items():
            assert value <= (1e-9 if dtype == "float64" else 1e-4), (dtype, name, value)
        drawn = found["draws"][dtype]
        assert drawn["sample"] > FAILURE_RATE and drawn["rsample"] > FAILURE_RATE
        assert drawn["disagreement"] == 0
    assert found["gradient"] < 0.05  # the standard errors of both are about 0.01
    assert found["tracings"] == 1 and found["edges"] == 0 and found["listed"] < 1e-4
    assert found["large"] < (1e-9 if backend in ("torch", "tensorflow", "jax64") else 1e-4)
    assert found["warnings"] == (backend == "jax")


@pytest.mark.parametrize("backend", ("torch", "tensorflow", "jax"))
def test_the_example_finds_the_weights(backend: str) -> None:
    need(backend)
    done = run(backend, "examples/keras_log_weights.py")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1.00 5.00 1.00" in done.stdout


BAD = [
    ("law(9, (3, 5), [0.0, 0.0])", "total_count must not exceed the sum of group_sizes: 9 of 8"),
    ("law(5, (3, 5.5), [0.0, 0.0])", "group_sizes and total_count must be whole Python numbers"),
    ("law(5, (3, 5), [0.0])", "log_weights must have one entry a group"),
    ("law(5, (3, 5), [0.0, float('nan')])", "log_weights must be finite"),
    ("law(5, (3, 5), [0.0, 1e9])", "log_weights must be finite, between -1e+06 and 1e+06, got [0.0, 1000000000.0]"),
    ("law(5, (3, 5), np.array(['a', 'b']))", "log_weights must be float32 or float64, got <U1"),
    ("law(float('inf'), (3, 5), [0.0, 0.0])", "whole Python numbers, 0 or more, got (3, 5) and inf"),
    ("law(5, (2**53, 5), [0.0, 0.0])", "group_sizes must sum to at most 2^53 - 1 elements, got (9007199254740992, 5)"),
    ("law(5, (3, 5), [0.0, 0.0]).log_prob('ab')", "value must be numbers or a tensor, got 'ab'"),
    ("law(5, (3, 5), [0.0, 0.0]).sample(noise='ab')", "noise must be numbers or a tensor, got 'ab'"),
    (
        "hard(0.5, 5, (3, 5), [0.0, 0.0]).noise_shape(3)",
        "sample_shape must be a sequence of numbers, such as (3,), got 3",
    ),
    ("hard(1e-320, 5, (3, 5), [0.0, 0.0])", "temperature must be positive and finite in float"),
    ("hard(10**400, 5, (3, 5), [0.0, 0.0])", "temperature must be one number, got 1000"),
    ("hard(ops.zeros(()), 5, (3, 5), [0.0, 0.0])", "temperature must be positive and finite in float"),
    ("law(90000, (10**6, 10**6), [0.0, 0.0])", "the torch classes have no such limit"),
    ("law(5, (3, 5), [0.0, 0.0]).log_prob([1.0, 2.0, 2.0])", r"value must be counts [..., 2], got shape (3,)"),
    ("hard(0.0, 5, (3, 5), [0.0, 0.0])", "temperature must be positive and finite in float"),
    ("hard(0.5, 5, (3, 5), [0.0, 0.0]).rsample(noise=[0.5])", "noise must have shape [sample_shape, batch, 8] = (8,)"),
    (
        "law(5, (3, 5), np.zeros((4, 2))).sample(noise=np.zeros((3, 2)))",
        "[sample_shape, batch, 2] = (4, 2), got (3, 2)",
    ),
    ("law(5, (3, 5), [0.0, 0.0]).sample((2, 0))", "sample_shape must have positive numbers, got (2, 0)"),
    ("law(5, (3, 5), [0.0, 0.0]).sample((-1,))", "sample_shape must have positive numbers, got (-1,)"),
    ("law(5, (3, 5), [0.0, 0.0]).sample(3)", "sample_shape must be a sequence of numbers, such as (3,), got 3"),
    ("law(5, (3, 5), [0.0, 0.0]).sample(noise=[0.5, 1.0])", "noise must be within [0, 1), got [0.5, 1.0]"),
    ("hard(0.5, 5, (3, 5), [0.0, 0.0]).rsample(noise=8 * [float('nan')])", "noise must be within [0, 1), got [nan"),
    ("law(5, (3, 5), np.zeros((0, 2)))", "and a law at least: got shape (0, 2)"),
    ("law(5, (3, 5), np.zeros(2, 'float16'))", "log_weights must be float32 or float64, got float16"),
    ("law(5, (3, 5), ['a', 'b'])", "log_weights must be numbers [..., 2], got ['a', 'b']"),
    ("law(5, (3, 5), keras.Input((2,)))", "log_weights must have values, got a keras.Input or what is made of one"),
    ("law(5, (3, 5), [0.0, 0.0]).log_prob(keras.Input((2,)))", "value must have values, got a keras.Input"),
    ("law(5, (3, 5), None)", "log_weights must be a tensor [..., 2], got NoneType"),
    ("law(5, (3, 5), ops.convert_to_tensor(np.array([0.0, np.nan])))", "between -1e+06 and 1e+06, got [0.0, nan]"),
    ("law(5, (3, 5), np.zeros((4, 2))).log_prob(np.zeros((3, 2)))", "value of shape (3, 2) does not broadcast"),
    ("hard(np.ones(2), 5, (3, 5), [0.0, 0.0])", "temperature must be one number"),
    ("hard(ops.ones(2), 5, (3, 5), [0.0, 0.0])", "temperature must be one number, got a tensor of shape (2,)"),
]


@pytest.mark.parametrize("backend", ("torch", "tensorflow", "jax"))
def test_bad_input_is_named(backend: str) -> None:
    need(backend)
    lines = ["import keras; import numpy as np; from keras import ops", "import mvhg.keras as k"]
    lines += ["law, hard = k.MultivariateHypergeometric, k.MultivariateHypergeometricStraightThrough"]
    for call, _ in BAD:
        lines += ["try:", f"    {call}", "except ValueError as error:", "    print(error)"]
    done = run(backend, "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr[-2000:]
    for _, message in BAD:
        assert message in done.stdout


@pytest.mark.parametrize("backend", ("torch", "jax"))
def test_counts_alone_take_no_vectors_and_keras_floatx_may_be_anything(backend: str) -> None:
    """Groups of 10^12, whose vectors would not fit anywhere."""
    need(backend)
    lines = ["import keras; keras.config.set_floatx('bfloat16')", "import numpy as np; import mvhg.keras as k"]
    lines += ["law = k.MultivariateHypergeometricStraightThrough(0.5, 2, (10**12, 10**12), np.zeros(2, 'float32'))"]
    lines += ["print(np.asarray(keras.ops.convert_to_numpy(law.rsample((40,), seed=1))).sum(-1).tolist())"]
    done = run(backend, "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == str([2.0] * 40)


def test_without_keras_the_extra_is_named() -> None:
    done = run("torch", "-c", "import sys; sys.modules['keras'] = None; import mvhg.keras")
    assert done.returncode == 1
    assert "ImportError: mvhg.keras needs Keras 3 and one of its backends: pip install 'mvhg[keras]'" in done.stderr
