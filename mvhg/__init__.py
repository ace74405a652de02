"""The differentiable multivariate hypergeometric distribution, exact and relaxed, for PyTorch."""

from mvhg import kl as _kl  # noqa: F401  (registers the divergence)
from mvhg._relaxation import Selection
from mvhg.annealing import ExponentialAnnealing
from mvhg.distribution import MultivariateHypergeometric
from mvhg.fit import WeightsFit, fit_weights
from mvhg.partition import LogProbBounds, RandomPartition
from mvhg.relaxed import MultivariateHypergeometricStraightThrough, RelaxedMultivariateHypergeometric
from mvhg.second_order import MultivariateHypergeometricSecondOrder

__all__ = [
    "ExponentialAnnealing",
    "LogProbBounds",
    "MultivariateHypergeometric",
    "MultivariateHypergeometricSecondOrder",
    "MultivariateHypergeometricStraightThrough",
    "RandomPartition",
    "RelaxedMultivariateHypergeometric",
    "Selection",
    "WeightsFit",
    "fit_weights",
]
__version__ = "0.2.0"
