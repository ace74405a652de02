"""How the two recipes get from an embedding to the VaDE's first clusters: their own settings, and no other's."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from experiments.cell_process import run_beside
from experiments.clustering.data import Splits
from experiments.clustering.pretraining.guided import GuidedTraining
from experiments.clustering.vade import VaDE
from experiments.context import RunContext
from experiments.settings import NonNegative, NonNegativeInt, PositiveInt, settings

if TYPE_CHECKING:
    from experiments.clustering.pretraining.pretraining import Pretraining

# Streams of the run's seed, apart from those of the experiment and of the autoencoder.
MIXTURE_STREAM, MANIFOLD_STREAM, GUIDED_STREAM = range(103, 106)


@settings
class Start:
    """A mixture of Gaussians, chosen among several fits by likelihood.

    Attributes:
        mixture_starts: fits, each from another k-means.
        mixture_digits: fit to the first so many digits, to save time.
    """

    mixture_starts: PositiveInt
    mixture_digits: PositiveInt

    @property
    def idle_settings(self) -> set[str]:
        """Settings of this section that nothing reads beside the others."""
        return set()

    def clusters(self, context: RunContext, vade: VaDE, embedding: Tensor, splits: Splits) -> Tensor:
        """Finds clusters and sets the components of ``vade`` to them.

        Args:
            context: of the run.
            vade: with the autoencoder's weights and the uniform prior.
            embedding: [digits, latent].
            splits: the digits; of the labels only the control's start makes use.

        Returns:
            Cluster of every digit, [digits] int64.
        """
        raise NotImplementedError

    def guided(
        self, context: RunContext, vade: VaDE, images: Tensor, assignments: Tensor, settings: Pretraining
    ) -> GuidedTraining | None:
        """What moves ``vade`` to the clusters before the prior's own training, if anything does."""
        return None

    def _mixture(
        self, context: RunContext, places: Tensor, num_clusters: int, covariance: Literal["diag", "full"]
    ) -> tuple[GaussianMixture, Tensor]:
        fit = partial(
            fit_mixture,
            covariance=covariance,
            starts=self.mixture_starts,
            max_digits=self.mixture_digits,
            seed=context.generator(MIXTURE_STREAM).initial_seed(),
        )
        found: tuple[GaussianMixture, Tensor] = run_beside(fit, places, num_clusters)
        return found


@settings
class VaDEStart(Start):
    """Jiang et al. (2017) and the paper: a mixture with diagonal covariances on the embedding itself."""

    def clusters(self, context: RunContext, vade: VaDE, embedding: Tensor, splits: Splits) -> Tensor:
        mixture, assignments = self._mixture(context, embedding, vade.prior.num_clusters, "diag")
        moments = (torch.from_numpy(values).float() for values in (mixture.means_, mixture.covariances_))
        vade.mixture.initialise(*moments)
        return assignments


@settings
class KnownStart(Start):
    """Of the control alone: the true classes, so that what follows is the prior's work and not the search's.

    The latent space is turned and scaled so that the digits of a class have the identity for covariance on average: the
    mixture's diagonal covariances could not follow them otherwise, and their misfit would pass for one of the sizes.
    """

    @property
    def idle_settings(self) -> set[str]:
        return {"mixture_starts", "mixture_digits"}

    def clusters(self, context: RunContext, vade: VaDE, embedding: Tensor, splits: Splits) -> Tensor:
        classes, values = splits.train_labels, embedding.double()
        means = torch.stack([values[classes == one].mean(0) for one in range(vade.prior.num_clusters)])
        covariance = (values - means[classes]).T.cov(correction=0)
        factor = torch.linalg.cholesky(covariance)
        vade.autoencoder.turn(torch.linalg.inv(factor).float(), factor.float())
        places = torch.linalg.solve_triangular(factor, values.T, upper=False).T.float()
        vade.mixture.initialise(*component_moments(places, classes, vade.prior.num_clusters))
        return classes


@settings
class N2DStart(Start):
    """N2D (McConville et al. 2021): UMAP of the embedding, a mixture with full covariances there.

    The VaDE is then moved to these clusters by guided epochs, see ``GuidedTraining``.

    Attributes:
        neighbours: of UMAP: size of the neighbourhood whose distances are kept.
        dimensions: of its result.
        guided_epochs: 0 for none.
        guidance_weight: of the term that pulls the clusters apart.
    """

    neighbours: Annotated[int, Field(ge=2)]
    dimensions: PositiveInt
    guided_epochs: NonNegativeInt
    guidance_weight: NonNegative

    @property
    def idle_settings(self) -> set[str]:
        return set() if self.guided_epochs else {"guidance_weight"}

    def clusters(self, context: RunContext, vade: VaDE, embedding: Tensor, splits: Splits) -> Tensor:
        num_clusters = vade.prior.num_clusters
        seed = context.generator(MANIFOLD_STREAM).initial_seed()
        places: Tensor = run_beside(manifold, embedding, self.neighbours, self.dimensions, seed)
        assignments = self._mixture(context, places, num_clusters, "full")[1]
        vade.mixture.initialise(*component_moments(embedding, assignments, num_clusters))
        return assignments

    def guided(
        self, context: RunContext, vade: VaDE, images: Tensor, assignments: Tensor, settings: Pretraining
    ) -> GuidedTraining | None:
        if not self.guided_epochs:
            return None
        noise_seed = context.generator(GUIDED_STREAM).initial_seed()
        return GuidedTraining(vade, images, assignments, self, settings, noise_seed)


def manifold(embedding: Tensor, neighbours: int, dimensions: int, seed: int) -> Tensor:
    """Coordinates of embedded digits [digits, latent] on the manifold, float32 [digits, dimensions].

    The same seed gives the same coordinates on the same machine: UMAP (McInnes et al. 2018) runs on one thread.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party: parts that are not used here, spectral start not converged
        from umap import UMAP  # compiles for some seconds: not before it is needed

        model = UMAP(
            n_neighbors=neighbours,
            n_components=dimensions,
            min_dist=0.0,
            random_state=np.random.RandomState(np.random.MT19937(seed)),
            n_jobs=1,
        )
        places = torch.from_numpy(np.asarray(model.fit_transform(embedding.cpu().numpy()), dtype=np.float32))
    # Numba's first parallel function sets the OpenMP threads of the whole process, torch's included: sums would
    # then differ between the first run of a process and the next.
    torch.set_num_threads(threads)
    return places


def fit_mixture(
    places: Tensor, num_clusters: int, *, covariance: Literal["diag", "full"], starts: int, max_digits: int, seed: int
) -> tuple[GaussianMixture, Tensor]:
    """Scikit-learn's maximum-likelihood fit; the best of several starts counts, by likelihood. No label is seen.

    Args:
        places: where the clusters are looked for, [digits, dimensions].
        num_clusters: K.
        covariance: of the components.
        starts: fits, each from another k-means.
        max_digits: fit to the first so many digits, to save time.
        seed: of the starts.

    Returns:
        The fitted mixture, and the most probable component of every digit, [digits] int64.
    """
    values = places.double().cpu().numpy()
    fitted = values[:max_digits]
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
    return best, torch.from_numpy(best.predict(values))


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
