"""What ``test_keras.py`` runs in a process of its own for each Keras backend; prints the errors found as JSON."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras import ops

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import mvhg
import mvhg.keras as mk
from tests import oracle
from tests.mvhg.helpers import chi_square_p_value, error
from tests.urns import BY_NAME, SMALL

BACKEND = keras.backend.backend()
# The widest weights (50 and more apart) need float64 in these tables of terms.
URNS = [urn for urn in SMALL if max(urn.log_weights) - min(urn.log_weights) < 40]
# Tracing and compiling takes JAX seconds for each.
DIFFERENTIATED = ("rising", "empty-groups", "all-drawn")


def array(value: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(value))


def compiled(function: Any) -> Any:
    """On JAX as one program: by itself each operation is compiled for each shape, hundreds of them."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


def gradient(function: Any, at: np.ndarray) -> np.ndarray:
    """Of a scalar in the log weights, by the backend's own differentiation."""
    if BACKEND == "torch":
        leaf = torch.tensor(at, requires_grad=True)
        return torch.autograd.grad(function(leaf), leaf)[0].numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.jit(jax.grad(function))(at))
    import tensorflow as tf

    variable = tf.Variable(at)
    with tf.GradientTape() as tape:
        value = function(variable)
    return tape.gradient(value, variable).numpy()


def closed_forms(dtype: str) -> dict[str, float]:
    worst = dict.fromkeys(("log_prob", "log_partition", "mean", "gradient"), 0.0)
    for urn in URNS:
        law = oracle.enumerate_law(*urn.arguments)
        weights, support = np.array(urn.log_weights, dtype), law.support.astype(dtype)

        def forms(weights: Any, urn: Any = urn, support: Any = support) -> tuple[Any, Any, Any]:
            ours = mk.MultivariateHypergeometric(urn.total_count, urn.group_sizes, weights)
            return ours.log_prob(support), ours.log_partition, ours.mean

        log_prob, log_partition, mean = (array(part) for part in compiled(forms)(weights))
        found = {
            "log_prob": (log_prob, law.log_pmf),
            "log_partition": (log_partition, np.array(law.log_partition)),
            "mean": (mean, law.mean),
        }
        if urn.name in DIFFERENTIATED:
            found["gradient"] = (gradient(lambda w, forms=forms: forms(w)[1], weights), law.mean)
        worst |= {name: max(worst[name], error(a, b)) for name, (a, b) in found.items()}
    return worst


def draws(dtype: str) -> dict[str, float]:
    urn = BY_NAME["rising"]
    law, weights = oracle.enumerate_law(*urn.arguments), np.array(urn.log_weights, dtype)
    batch = np.tile(weights, (50_000, 1))

    def exact(weights: Any) -> Any:
        return mk.MultivariateHypergeometric(urn.total_count, urn.group_sizes, weights).sample((50_000,), seed=1)

    def hard(weights: Any) -> Any:
        drawn = mk.MultivariateHypergeometricStraightThrough(0.5, urn.total_count, urn.group_sizes, weights)
        return tuple(drawn.rsample_selection(seed=3))

    counts, one_hot, mask = (array(part) for part in compiled(hard)(batch))
    off = np.abs(counts.sum(-1) - urn.total_count).max() + np.abs(one_hot @ np.arange(6) - counts).max()
    off += np.abs(mask - (np.arange(5) < counts[..., None])).max()
    return {
        "sample": chi_square_p_value(array(compiled(exact)(weights)), law.support, law.pmf),
        "rsample": chi_square_p_value(counts, law.support, law.pmf),
        "disagreement": float(off),
    }


def edges() -> int:
    """How many draws at the edges are wrong: nothing, everything, one group, noise of 0 and nearly 1."""
    wrong = 0
    for total, sizes, counts in ((0, (3, 5), [0, 0]), (8, (3, 5), [3, 5]), (4, (9,), [4]), (3, (0, 3), [0, 3])):
        weights = np.zeros((2, len(sizes)), "float32")
        shape = mk.MultivariateHypergeometricStraightThrough(0.5, total, sizes, weights).noise_shape()

        def drawn(weights: Any, noise: Any, total: int = total, sizes: Any = sizes, counts: Any = counts) -> Any:
            hard = mk.MultivariateHypergeometricStraightThrough(0.5, total, sizes, weights)
            return hard.rsample(noise=noise), hard.sample(seed=1), hard.log_prob(np.array(counts, "float32"))

        for noise in (np.random.default_rng(0).random(shape), np.full(shape, 1 - 2.0**-24), np.zeros(shape)):
            hard, exact, log_prob = (array(part) for part in compiled(drawn)(weights, noise.astype("float32")))
            wrong += not (hard == counts).all() or not (exact == counts).all() or abs(log_prob).max() > 1e-6
    outside = np.array([[np.nan, 4.0], [-1.0, 4.0], [0.5, 2.5], [4.0, -1.0]])
    law = mk.MultivariateHypergeometric(3, (3, 5), np.zeros(2, "float32"))
    return int(wrong + (array(law.log_prob(outside)) != -np.inf).sum())


def large() -> float:
    """Error of the law of two draws from two groups of many, whose factorials have no digits left, and wide weights."""
    worst = 0.0
    for m in (10**6, 10**12):
        ours = mk.MultivariateHypergeometric(2, (m, m), np.zeros(2))
        pairs = m * (m - 1) // 2  # from one group; from each one it is m * m
        expected = math.log(m * m / (2 * pairs + m * m)), math.log(2 * pairs + m * m)
        worst = max(
            worst, error(array(ours.log_prob(np.ones(2))), expected[0]), error(array(ours.log_partition), expected[1])
        )
    wide = mk.MultivariateHypergeometric(150, (100, 100, 100), np.array([5e5, -5e5, 0.0]))
    return max(worst, error(array(wide.mean), [100.0, 0.0, 50.0]))


def listed() -> float:
    """Error of the gradient of log P_0, the mean, in weights that are a list of tensors."""
    urn = BY_NAME["rising"]

    def value(weights: Any) -> Any:
        rows = [weights[i] for i in range(urn.groups)]
        return mk.MultivariateHypergeometric(urn.total_count, urn.group_sizes, rows).log_partition

    found = gradient(value, np.array(urn.log_weights, keras.backend.floatx()))
    return error(found, oracle.enumerate_law(*urn.arguments).mean)


def straight_through_gradient() -> float:
    """Difference to the torch class's mean gradient, relative to the exact gradient's norm; 40,000 draws each."""
    urn, dtype = BY_NAME["rising"], array(ops.zeros((), keras.backend.floatx())).dtype
    law, direction = oracle.enumerate_law(*urn.arguments), np.array([1.0, -2.0, 0.5], dtype)
    batch = np.tile(np.array(urn.log_weights, dtype), (40_000, 1))

    def ours(weights: Any) -> Any:
        hard = mk.MultivariateHypergeometricStraightThrough(0.5, urn.total_count, urn.group_sizes, weights)
        return ops.sum(hard.rsample(seed=5) * ops.convert_to_tensor(direction))

    leaf = torch.tensor(batch, requires_grad=True)
    torch.manual_seed(0)
    theirs = mvhg.MultivariateHypergeometricStraightThrough(0.5, urn.total_count, urn.group_sizes, log_weights=leaf)
    (theirs.rsample() * torch.tensor(direction)).sum().backward()
    difference = gradient(ours, batch).mean(0) - leaf.grad.numpy().mean(0)
    return float(np.linalg.norm(difference) / np.linalg.norm(law.covariance @ direction))


def tracings() -> int:
    """How often a function is traced for three different weights, or 1 where nothing is."""
    count, draw = [], [np.array([0.1, 0.2, 0.3 * k], "float32") for k in range(3)]

    def value(weights: Any, noise: Any) -> Any:
        count.append(1)
        hard = mk.MultivariateHypergeometricStraightThrough(0.5, 5, (3, 5, 4), weights)
        return ops.sum(hard.rsample(noise=noise)) + hard.log_partition

    if BACKEND == "torch":
        return 1
    if BACKEND == "jax":
        import jax

        traced = jax.jit(value)
    else:
        import tensorflow as tf

        traced = tf.function(value)
    noise = np.random.default_rng(0).random((15,)).astype("float32")
    for weights in draw:
        traced(ops.convert_to_tensor(weights), ops.convert_to_tensor(noise))
    return len(count)


if __name__ == "__main__":
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            mk.MultivariateHypergeometric(1, (2, 2), np.zeros(2, "float64"))
    dtypes = ["float32"] if mk._keras_input.working_dtype() == "float32" else ["float64", "float32"]
    print(json.dumps({
        "closed_forms": {dtype: closed_forms(dtype) for dtype in dtypes},
        "draws": {dtype: draws(dtype) for dtype in dtypes},
        "gradient": straight_through_gradient(),
        "tracings": tracings(),
        "edges": edges(),
        "large": large(),
        "listed": listed(),
        "warnings": sum("JAX has no float64" in str(one.message) for one in said),
    }))  # fmt: skip
