"""The metrics of disentanglement_lib 1.5 beside current packages, without importing TensorFlow.

The metrics themselves are NumPy and scikit-learn. Two things stand between them and an import today: they ask for
``gin.tf``, which would load TensorFlow for nothing, and they call gin by argument names that it has since changed.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from experiments.settings import ExperimentError

_RENAMED = {"blacklist": "denylist", "whitelist": "allowlist"}
# What the library's own configurations of these metrics say; gin wants it bound, it can't be passed.
NUM_BINS = 20
SMALLEST_DEVIATION = 0.05  # of a latent that FactorVAE's score counts as active


class Metrics(NamedTuple):
    """The library's modules; each call takes its settings as arguments."""

    beta_vae: ModuleType
    dci: ModuleType
    factor_vae: ModuleType
    mig: ModuleType
    modularity_explicitness: ModuleType
    sap_score: ModuleType
    utils: ModuleType


@functools.cache
def load_metrics() -> Metrics:
    """Imports the metrics and gives them the settings of the library's own configurations.

    Raises:
        ExperimentError: the extra is not installed.
    """
    try:
        gin: Any = importlib.import_module("gin")
        with _current_gin(gin):
            modules = (f"disentanglement_lib.evaluation.metrics.{name}" for name in Metrics._fields)
            metrics = Metrics(*map(importlib.import_module, modules))
    except ImportError as error:
        raise ExperimentError(
            "the disentanglement scores need disentanglement_lib, which is an extra of its own (2 GB): "
            f"pip install -e '.[disentanglement]' ({error})"
        ) from None
    gin.bind_parameter("discretizer.discretizer_fn", metrics.utils._histogram_discretize)
    gin.bind_parameter("discretizer.num_bins", NUM_BINS)
    gin.bind_parameter("prune_dims.threshold", SMALLEST_DEVIATION)
    return metrics


@contextmanager
def _current_gin(gin: Any) -> Iterator[None]:
    """Lets old code import ``gin.tf`` and decorate by the old names while the block runs."""
    configurable, before = gin.configurable, sys.modules.get("gin.tf")

    @functools.wraps(configurable)
    def renaming(*arguments: Any, **named: Any) -> Callable[..., Any]:
        return configurable(*arguments, **{_RENAMED.get(name, name): value for name, value in named.items()})

    gin.configurable, sys.modules["gin.tf"] = renaming, gin
    try:
        yield
    finally:
        gin.configurable = configurable
        if before is None:
            del sys.modules["gin.tf"]
        else:
            sys.modules["gin.tf"] = before
