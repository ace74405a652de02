"""The disentanglement scores of Figure 11 by disentanglement_lib, at the sizes of its own configurations or smaller."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from experiments.disentanglement.representations import GridRepresentations
from experiments.disentanglement.shims import Metrics, load_metrics
from experiments.training import derive_seed

log = logging.getLogger("experiments")

OFFICIAL_SAMPLES = 10_000  # to fit on; half as many to score on
BATCH = 64  # images behind one example of the BetaVAE and FactorVAE scores
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
    computations: list[tuple[Callable[..., dict[str, float]], int]] = [
        (_beta_vae, num_samples),
        (_factor_vae, num_samples),
        (_mig, num_samples),
        (_sap, num_samples),
        (_modularity, num_samples),
        (_dci, dci_samples),
    ]
    lines: list[dict[str, Any]] = []
    for stream, (compute, samples) in enumerate(computations):
        started = time.perf_counter()
        with _library_call(derive_seed(seed, stream)) as random_state:
            values = compute(metrics, data, random_state, samples)
        log.info("  %s: %.0f s", ", ".join(values), time.perf_counter() - started)
        lines += [{"score": score, "value": float(value), "samples": samples} for score, value in values.items()]
    return pd.DataFrame(lines)


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


def _beta_vae(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    scores = metrics.beta_vae.compute_beta_vae_sklearn(
        data, data.represent, random_state, batch_size=BATCH, num_train=samples, num_eval=samples // 2
    )
    return {"beta_vae": scores["eval_accuracy"]}


def _factor_vae(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    scores = metrics.factor_vae.compute_factor_vae(
        data,
        data.represent,
        random_state,
        batch_size=BATCH,
        num_train=samples,
        num_eval=samples // 2,
        num_variance_estimate=samples,
    )
    return {"factor_vae": scores["eval_accuracy"]}


def _mig(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    return {"mig": metrics.mig.compute_mig(data, data.represent, random_state, num_train=samples)["discrete_mig"]}


def _sap(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    scores = metrics.sap_score.compute_sap(
        data, data.represent, random_state, num_train=samples, num_test=samples // 2, continuous_factors=False
    )
    return {"sap": scores["SAP_score"]}


def _modularity(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    """Modularity without the explicitness that the library computes along with it, which a constant latent breaks."""
    means, factors = metrics.utils.generate_batch_factor_code(data, data.represent, samples, random_state, BATCH)
    information = metrics.utils.discrete_mutual_info(metrics.utils.make_discretizer(means), factors)
    return {"modularity": metrics.modularity_explicitness.modularity(information)}


def _dci(
    metrics: Metrics, data: GridRepresentations, random_state: np.random.RandomState, samples: int
) -> dict[str, float]:
    scores = metrics.dci.compute_dci(
        data, data.represent, random_state, num_train=samples, num_test=samples // 2, batch_size=BATCH
    )
    return {
        "dci_disentanglement": scores["disentanglement"],
        "dci_completeness": scores["completeness"],
        "dci_informativeness": scores["informativeness_test"],
    }
