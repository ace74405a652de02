"""The mixture that finds the clusters before training, and the manifold it looks in, against SciPy and scikit-learn."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch import Tensor

from experiments.clustering.pretraining import starts
from experiments.clustering.pretraining.starts import component_moments, fit_mixture, manifold
from tests.experiments.clustering_fits import generator


def grid_of_clusters(per_cluster: int = 30, spread: float = 0.25) -> tuple[Tensor, Tensor]:
    """Nine clusters on a square grid in random order; several starts of k-means end in poorer optima."""
    truth = torch.arange(9).repeat(per_cluster)[torch.randperm(9 * per_cluster, generator=generator(7))]
    centres = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    return centres[truth] + spread * torch.randn(len(truth), 2, generator=generator(8)), truth


def test_the_start_of_the_largest_likelihood_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[GaussianMixture] = []

    class Recorded(GaussianMixture):
        def fit(self, values: Any, y: Any = None) -> Any:
            models.append(self)
            return super().fit(values, y)

    monkeypatch.setattr(starts, "GaussianMixture", Recorded)
    places, _ = grid_of_clusters()
    found, assignments = fit_mixture(places, 9, covariance="diag", starts=6, max_digits=10**6, seed=0)
    likelihoods = [model.score(places.double().numpy()) for model in models]
    best = int(np.argmax(likelihoods))
    assert len(models) == 6 and max(likelihoods) - min(likelihoods) > 0.01
    assert 0 < best < 5, "neither the first nor the last start"
    assert found is models[best]
    np.testing.assert_array_equal(assignments, models[best].predict(places.double().numpy()))


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_moments_and_assignments_are_those_of_separated_groups(covariance: Literal["diag", "full"]) -> None:
    places, truth = grid_of_clusters(spread=0.1)
    found, assignments = fit_mixture(places, 9, covariance=covariance, starts=8, max_digits=10**6, seed=0)
    assert adjusted_rand_score(truth, assignments) == 1
    for cluster in range(9):
        members = places[assignments == cluster].double().numpy()
        np.testing.assert_allclose(found.means_[cluster], members.mean(0), atol=1e-3)
        # scikit-learn's regularisation, 1e-4 of the places' variance, is on top of it.
        expected = np.cov(members.T, bias=True) if covariance == "full" else members.var(0)
        np.testing.assert_allclose(found.covariances_[cluster], expected, atol=1e-3)


def test_only_the_first_digits_are_fitted_and_all_are_assigned() -> None:
    places, _ = grid_of_clusters()
    (found, assignments), (alone, first) = (
        fit_mixture(v, 9, covariance="diag", starts=2, max_digits=100, seed=0) for v in (places, places[:100])
    )
    np.testing.assert_array_equal(found.means_, alone.means_)
    assert len(assignments) == len(places)
    assert torch.equal(assignments[:100], first)


@pytest.mark.parametrize("constant", [1, 2])
@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_constant_dimensions_of_the_embedding_stay_finite(covariance: Literal["diag", "full"], constant: int) -> None:
    """Units of the embedding that a ReLU before it has switched off for all digits."""
    places, truth = grid_of_clusters(spread=0.1)
    places = torch.cat([places, torch.full((len(places), constant), 3.0)], 1)
    found, assignments = fit_mixture(places, 9, covariance=covariance, starts=8, max_digits=10**6, seed=0)
    means, variances = component_moments(places, assignments, 9)
    every = (found.means_, found.covariances_, means, variances)
    assert all(torch.as_tensor(values).isfinite().all() for values in every)
    assert (variances > 0).all()
    assert adjusted_rand_score(truth, assignments) == 1
    np.testing.assert_allclose(found.means_[:, 2:], 3.0)


def test_component_moments_of_full_empty_and_single_clusters() -> None:
    values = torch.randn(20, 3, generator=generator(10)) * torch.tensor([1.0, 2.0, 0.001])
    assignments = torch.tensor([0] * 9 + [2] * 10 + [3])  # 1 is empty, 3 has one member
    means, variances = component_moments(values, assignments, 4)
    array = values.double().numpy()
    least = 1e-3 * array.var(0, ddof=1).mean()
    for cluster, members in {0: array[:9], 2: array[9:19], 1: array, 3: array}.items():
        np.testing.assert_allclose(means[cluster], members.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variances[cluster], np.maximum(members.var(0, ddof=1), least), rtol=1e-4)
    assert (variances[:, 2] == variances[0, 2]).all() and float(variances[0, 2]) == pytest.approx(least, rel=1e-4)


def test_the_manifold_separates_clusters_that_a_mixture_in_the_embedding_does_not() -> None:
    """Two interleaved half circles: no mixture of two Gaussians finds them."""
    source = generator(0)
    angle = torch.rand(600, generator=source) * torch.pi
    upper = torch.stack([angle.cos(), angle.sin()], -1)
    moons = torch.where((torch.arange(600) < 300)[:, None], upper, torch.tensor([1.0, 0.4]) - upper)
    moons = moons + 0.03 * torch.randn(600, 2, generator=source)
    order = torch.randperm(600, generator=source)
    moons, truth = moons[order], (order >= 300).long()
    threads = torch.get_num_threads()
    places = manifold(moons, 10, 2, seed=0)
    assert torch.get_num_threads() == threads  # numba would set it for the process, and sums depend on it
    assert torch.equal(places, manifold(moons, 10, 2, seed=0))

    def agreement(values: Tensor) -> float:
        _, assignments = fit_mixture(values, 2, covariance="full", starts=3, max_digits=600, seed=0)
        same = float((assignments == truth).double().mean())
        return max(same, 1 - same)

    assert agreement(moons) < 0.95
    assert agreement(places) == 1.0
