"""The mixture of Gaussians on the pretrained embedding, from which the VAE starts."""

from __future__ import annotations

import logging
import warnings
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

log = logging.getLogger("experiments")
COVARIANCES = ("diag", "full")


class FittedMixture(NamedTuple):
    """A fitted mixture.

    Attributes:
        probabilities: [clusters].
        means: [clusters, latent].
        variances: [clusters, latent]; for full covariances their diagonals.
        assignments: most probable component of every digit, [digits].
        log_likelihood: mean per digit, the criterion by which the best start was chosen.
    """

    probabilities: Tensor
    means: Tensor
    variances: Tensor
    assignments: Tensor
    log_likelihood: float


def fit_mixture(
    embedding: Tensor, *, num_clusters: int, starts: int, covariance: str, max_digits: int, seed: int
) -> FittedMixture:
    """The best of several maximum-likelihood fits of scikit-learn, by likelihood; no label is seen.

    Args:
        embedding: [digits, latent].
        num_clusters: components.
        starts: fits, each from another k-means.
        covariance: ``"diag"`` or ``"full"``.
        max_digits: fit to the first so many digits (they are in random order), to save time.
        seed: of the starts.
    """
    values = embedding[:max_digits].double().cpu().numpy()
    # Regularised in proportion to the embedding's own scale, so that a component on few points stays finite.
    floor = 1e-4 * float(values.var(axis=0).mean()) + 1e-12
    best: GaussianMixture | None = None
    for start in range(starts):
        model = GaussianMixture(
            num_clusters,
            covariance_type=covariance,
            reg_covar=floor,
            max_iter=300,
            random_state=np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, start)))),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the best of several starts needs no last digit
            model.fit(values)
        if best is None or model.lower_bound_ > best.lower_bound_:
            best = model
    assert best is not None
    covariances = torch.from_numpy(best.covariances_)
    variances = covariances if covariance == "diag" else covariances.diagonal(dim1=-2, dim2=-1)
    return FittedMixture(
        torch.from_numpy(best.weights_).float(),
        torch.from_numpy(best.means_).float(),
        variances.float().contiguous(),
        torch.from_numpy(best.predict(embedding.double().cpu().numpy())),
        float(best.lower_bound_),
    )
