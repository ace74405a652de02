"""The expected squared loss of the urn (Eq. 36, 43) in closed form, and the weights that minimise it.

For X_D and X independent, E|X_D - X|^2 = sum_c Var(X_D,c) + sum_c Var(X_c) + |E X - E X_D|^2. The first term does not
depend on the model, the third is smallest at the true weights, the second is not: it pulls towards weights under which
the counts vary less. So the minimum lies beside the true weights even with exact samples and without any noise.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from experiments.urn.problem import UrnProblem


def expected_squared_loss(
    problem: UrnProblem, log_weights: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """E|X_D - X|^2 for X from the exact law.

    Args:
        problem: the urn.
        log_weights: of the model, [..., groups].
        target_mean: E X_D, [..., groups].
        target_variance: sum over the groups of Var(X_D,c), [...].

    Returns:
        [...], differentiable in ``log_weights``.
    """
    law = problem.law(log_weights)
    return target_variance + law.variance.sum(-1) + (law.mean - target_mean).square().sum(-1)


def squared_loss_optimum(problem: UrnProblem, target_mean: Tensor, target_variance: Tensor) -> Tensor:
    """Log weights [datasets, groups] (mean 0) that minimise :func:`expected_squared_loss`, by BFGS from equal weights.

    Args:
        problem: the urn.
        target_mean: E X_D, [datasets, groups].
        target_variance: sum over the groups of Var(X_D,c), [datasets].

    Raises:
        RuntimeError: the optimizer did not converge.
    """

    def minimum(mean: Tensor, variance: Tensor) -> Tensor:
        def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
            log_weights = torch.tensor(point, dtype=torch.float64, requires_grad=True)
            loss = expected_squared_loss(problem, log_weights, mean, variance)
            (gradient,) = torch.autograd.grad(loss, log_weights)
            return loss.item(), gradient.numpy()

        # The gradient sums to 0 over the groups, so the mean of the log weights stays where it starts.
        result = minimize(
            objective, np.zeros(len(problem.group_sizes)), jac=True, method="BFGS", options={"gtol": 1e-6}
        )
        if not result.success and np.abs(result.jac).max() > 1e-3:
            raise RuntimeError(f"the minimum of the squared loss was not found: {result.message}")
        return torch.from_numpy(result.x - result.x.mean())

    return torch.stack([minimum(*target) for target in zip(target_mean, target_variance, strict=True)])
