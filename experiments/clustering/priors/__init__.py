"""The priors over the cluster assignments."""

from experiments.clustering.priors.base import BatchLaw, Prior
from experiments.clustering.priors.hypergeometric import HypergeometricPrior
from experiments.clustering.priors.independent import CategoricalPrior, UniformPrior

__all__ = ["BatchLaw", "CategoricalPrior", "HypergeometricPrior", "Prior", "UniformPrior"]
