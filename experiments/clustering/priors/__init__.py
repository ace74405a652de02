"""The priors over the cluster assignments."""

from experiments.clustering.priors.base import Prior
from experiments.clustering.priors.categorical import CategoricalPrior
from experiments.clustering.priors.hypergeometric import HypergeometricPrior
from experiments.clustering.priors.uniform import UniformPrior

__all__ = ["CategoricalPrior", "HypergeometricPrior", "Prior", "UniformPrior"]
