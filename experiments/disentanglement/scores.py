"""The disentanglement scores of Figure 11 by disentanglement_lib, at the sizes of its own configurations or smaller."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.disentanglement.representations import GridRepresentations
from experiments.disentanglement.shims import Metrics, load_metrics
from experiments.training import derive_seed

log = logging.getLogger("experiments")

OFFICIAL_SAMPLES = 10_000  # to fit on; half as many to score on
BATCH = 64  # images behind one example of the BetaVAE and FactorVAE scores
DCI = ("disentanglement", "completeness", "informativeness_test")
MINIMUM_SAMPLES = 20  # fewer might not show every factor changing


def disentanglement_scores(
    data: GridRepresentations,
    *,
    seed: int,
    num_samples: int = OFFICIAL_SAMPLES,
    dci_samples: int = OFFICIAL_SAMPLES,
) -> pd.DataFrame:
    """Scores a representation of a grid of images.

    Args:
        data: the representation of every image.
        seed: of everything that is drawn; each score has its own stream.
        num_samples: examples to fit on, of all scores but DCI's; half as many to score on.
        dci_samples: the same for DCI, whose boosted trees take minutes at the official 10,000.

    Returns:
        A line for each of ``beta_vae``, ``factor_vae``, ``mig``, ``sap``, ``modularity``, ``dci_disentanglement``,
        ``dci_completeness`` and ``dci_informativeness``: ``score``, ``value`` (1 is best) and ``samples``.

    Raises:
        ExperimentError: disentanglement_lib is not installed.
    """
    metrics = load_metrics()
    fit, half = {"num_train": num_samples}, num_samples // 2
    # What computes it, our name of a score -> the library's, and settings.
    calls: list[tuple[Callable[..., dict[str, float]], dict[str, str], dict[str, Any]]] = [
        (
            metrics.beta_vae.compute_beta_vae_sklearn,
            {"beta_vae": "eval_accuracy"},
            {**fit, "num_eval": half, "batch_size": BATCH},
        ),
        (
            metrics.factor_vae.compute_factor_vae,
            {"factor_vae": "eval_accuracy"},
            {**fit, "num_eval": half, "batch_size": BATCH, "num_variance_estimate": num_samples},
        ),
        (metrics.mig.compute_mig, {"mig": "discrete_mig"}, fit),
        (
            metrics.sap_score.compute_sap,
            {"sap": "SAP_score"},
            {**fit, "num_test": half, "continuous_factors": False},
        ),
        (partial(modularity, metrics), {"modularity": "modularity_score"}, fit),
        (
            metrics.dci.compute_dci,
            {f"dci_{name.removesuffix('_test')}": name for name in DCI},
            {"num_train": dci_samples, "num_test": dci_samples // 2, "batch_size": BATCH},
        ),
    ]
    lines: list[dict[str, Any]] = []
    for stream, (compute, names, settings) in enumerate(calls):
        started = time.perf_counter()
        with _library_call(derive_seed(seed, stream)) as random_state:
            values = compute(data, data.represent, random_state, **settings)
        log.info("  %s: %.0f s", ", ".join(names), time.perf_counter() - started)
        samples = settings["num_train"]
        lines += [{"score": ours, "value": float(values[name]), "samples": samples} for ours, name in names.items()]
    return pd.DataFrame(lines)


def modularity(
    metrics: Metrics, data: GridRepresentations, represent: Any, random_state: np.random.RandomState, num_train: int
) -> dict[str, float]:
    """Modularity without the explicitness that the library computes along with it, which a constant latent breaks."""
    means, factors = metrics.utils.generate_batch_factor_code(data, represent, num_train, random_state, BATCH)
    information = metrics.utils.discrete_mutual_info(metrics.utils.make_discretizer(means), factors)
    return {"modularity_score": metrics.modularity_explicitness.modularity(information)}


@contextmanager
def _library_call(seed: int) -> Iterator[np.random.RandomState]:
    """Gives the library a random state, and NumPy's global one for the trees that know no other.

    Its classifiers stop at scikit-learn's default number of iterations whether or not they have converged: that is the
    published score, and no news for the user. Nor is what it logs about every step.
    """
    library_log = logging.getLogger("absl")
    level = library_log.level
    words = np.random.SeedSequence(seed).generate_state(2)
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(words[0])  # noqa: NPY002
    library_log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield np.random.RandomState(words[1])
    finally:
        np.random.set_state(before)  # noqa: NPY002
        library_log.setLevel(level)
