"""The priors over the cluster assignments."""

from experiments.clustering.priors.base import BatchLaw, CategoricalPrior, Prior, UniformPrior
from experiments.clustering.priors.hypergeometric import HypergeometricPrior

__all__ = ["BatchLaw", "CategoricalPrior", "HypergeometricPrior", "Prior", "UniformPrior"]
