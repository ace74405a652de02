"""The disentanglement scores of Figure 11 by disentanglement_lib, at the sizes of its own configurations or smaller.

A model's representation of a grid of images comes in the form that the library's metrics sample from.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from experiments.disentanglement.shims import Metrics, load_metrics
from experiments.training import derive_seed
from experiments.weak_supervision.data.images import FactorGrid

log = logging.getLogger("experiments")

OFFICIAL_SAMPLES = 10_000  # to fit on; half as many to score on
BATCH = 64  # images behind one example of the BetaVAE and FactorVAE scores
DCI = ("disentanglement", "completeness", "informativeness_test")
MINIMUM_SAMPLES = 20  # fewer might not show every factor changing
Integers = npt.NDArray[np.int64]


class GridRepresentations:
    """Ground-truth data whose observations are numbers of images, and a representation that looks them up.

    Every image is encoded once, beforehand: the metrics draw two million.

    Args:
        grid: the factors of the images.
        means: [images, latents], posterior mean of every image, in the grid's order.

    Raises:
        ValueError: not one finite encoding for every image, one latent alone, or a factor with one value alone.
    """

    def __init__(self, grid: FactorGrid, means: Tensor) -> None:
        if means.ndim != 2 or len(means) != grid.num_images or means.shape[1] < 2:
            raise ValueError(f"means must be [{grid.num_images}, latents], two at least, got {list(means.shape)}")
        if not means.isfinite().all():
            raise ValueError("means must be finite")
        single = [name for name, size in zip(grid.names, grid.sizes) if size < 2]
        if single:
            raise ValueError(f"every factor must have two values to be told apart, but not so {', '.join(single)}")
        self._sizes = np.array(grid.sizes)
        self._means: npt.NDArray[Any] = means.detach().double().cpu().numpy()

    def represent(self, observations: Integers) -> npt.NDArray[Any]:
        """Posterior means [num, latents] of images given by their numbers."""
        return self._means[observations]

    @property
    def num_factors(self) -> int:
        """Number of generative factors."""
        return len(self._sizes)

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> Integers:
        """Draws values of all factors uniformly, int64 [num, factors]."""
        return random_state.randint(self._sizes, size=(num, self.num_factors), dtype=np.int64)

    def sample_observations_from_factors(self, factors: Integers, random_state: np.random.RandomState) -> Integers:
        """Numbers of the images that show given values, int64 [num]; nothing is random about it."""
        return np.ravel_multi_index(tuple(factors.T), tuple(self._sizes))

    def sample(self, num: int, random_state: np.random.RandomState) -> tuple[Integers, Integers]:
        """Draws values, and the images that show them."""
        factors = self.sample_factors(num, random_state)
        return factors, self.sample_observations_from_factors(factors, random_state)

    def sample_observations(self, num: int, random_state: np.random.RandomState) -> Integers:
        """Draws images."""
        return self.sample(num, random_state)[1]


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
