"""The manifold of the embedding, in which clusters of any shape become compact (McConville et al. 2021, N2D)."""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from experiments.settings import PositiveInt, settings


@settings
class Manifold:
    """Settings of UMAP (McInnes et al. 2018).

    Attributes:
        neighbours: size of the neighbourhood whose distances are kept.
        dimensions: of the result.
    """

    neighbours: Annotated[int, Field(ge=2)]
    dimensions: PositiveInt

    def fit(self, embedding: Tensor, seed: int) -> Tensor:
        """Coordinates of embedded digits [digits, latent] on the manifold, float32 [digits, dimensions].

        The same seed gives the same coordinates on the same machine: UMAP then runs on one thread.
        """
        threads = torch.get_num_threads()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # third-party: parts that are not used here, spectral start not converged
            from umap import UMAP  # compiles for some seconds: not before it is needed

            model = UMAP(
                n_neighbors=min(self.neighbours, len(embedding) - 1),
                n_components=self.dimensions,
                min_dist=0.0,
                random_state=np.random.RandomState(np.random.MT19937(seed)),
                n_jobs=1,
            )
            places = torch.from_numpy(np.asarray(model.fit_transform(embedding.cpu().numpy()), dtype=np.float32))
        # Numba's first parallel function sets the OpenMP threads of the whole process, torch's included: sums would
        # then differ between the first run of a process and the next.
        torch.set_num_threads(threads)
        return places
