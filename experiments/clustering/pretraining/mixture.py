"""The mixture of Gaussians that finds the clusters before the VaDE is trained."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor


class FittedMixture(NamedTuple):
    """A fitted mixture.

    Attributes:
        means: [clusters, dimensions].
        variances: [clusters, dimensions]; for full covariances their diagonals.
        assignments: most probable component of every digit, [digits] int64.
    """

    means: Tensor
    variances: Tensor
    assignments: Tensor


def fit_mixture(
    places: Tensor, num_clusters: int, *, covariance: Literal["diag", "full"], starts: int, max_digits: int, seed: int
) -> FittedMixture:
    """Scikit-learn's maximum-likelihood fit; the best of several starts counts, by likelihood. No label is seen.

    Args:
        places: where the clusters are looked for, [digits, dimensions].
        num_clusters: K.
        covariance: of the components.
        starts: fits, each from another k-means.
        max_digits: fit to the first so many digits, to save time.
        seed: of the starts.
    """
    values = places.double().cpu().numpy()
    fitted = values[: max(max_digits, num_clusters)]
    # Regularised in proportion to the places' own scale, so that a component on few points stays finite.
    floor = 1e-4 * float(fitted.var(axis=0).mean()) + 1e-12
    models = []
    for start in range(starts):
        random_state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, start))))
        model = GaussianMixture(
            num_clusters, covariance_type=covariance, reg_covar=floor, max_iter=300, random_state=random_state
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the best of several needs no last digit
            models.append(model.fit(fitted))
    best = max(models, key=lambda model: model.lower_bound_)
    covariances = torch.from_numpy(best.covariances_)
    variances = covariances if covariance == "diag" else covariances.diagonal(dim1=-2, dim2=-1)
    assignments = torch.from_numpy(best.predict(values))
    return FittedMixture(torch.from_numpy(best.means_).float(), variances.float().contiguous(), assignments)


def component_moments(values: Tensor, assignments: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the values [digits, latent] of every cluster, both [clusters, latent].

    A cluster with fewer than two digits gets those of all digits.
    """
    means, variances = values.mean(0).repeat(num_clusters, 1), values.var(0).repeat(num_clusters, 1)
    for cluster in range(num_clusters):
        members = values[assignments == cluster]
        if len(members) >= 2:
            means[cluster], variances[cluster] = members.mean(0), members.var(0)
    return means, variances.clamp_min(1e-3 * float(values.var(0).mean()))
