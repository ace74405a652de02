"""Estimators of the urn's weights without gradient descent, and the squared loss in closed form.

For X_D and X independent, E|X_D - X|^2 = sum_c Var(X_D,c) + sum_c Var(X_c) + |E X - E X_D|^2 (Eq. 36, 43). The first
term does not depend on the model, the third is smallest at the true weights, the second is not: it pulls towards
weights under which the counts vary less. So the minimum lies beside the true weights even with exact samples.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor

from experiments.context import TRAINING_ALONE, RunContext
from experiments.settings import settings
from experiments.urn.problem import DATA_STREAM, UrnProblem


@settings
class ClosedForm:
    """Base of the estimators: the same tables, each from log weights of its own.

    Attributes:
        problem: The urn and its datasets.
    """

    idle_settings: ClassVar = TRAINING_ALONE

    problem: UrnProblem

    def log_weights(self, train: Tensor) -> Tensor:
        """Returns the estimate [datasets, groups] from the training samples [datasets, samples, groups]."""
        raise NotImplementedError

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics`` and ``weights``."""
        splits = self.problem.draw(context.generator(DATA_STREAM))
        tables = self.problem.recovery(self.log_weights(splits.train), self.problem.fit(splits.train)[1])
        tables["metrics"]["model_squared_loss"] = tables["metrics"]["expected_squared_loss"]
        context.log_summary({"rmse": float(tables["metrics"]["rmse"].mean())})
        return tables


class MaximumLikelihood(ClosedForm):
    """Fits the weights of every dataset by exact maximum likelihood on the training samples."""

    def log_weights(self, train: Tensor) -> Tensor:
        return self.problem.fit(train)[0]


class SquaredLossOptimum(ClosedForm):
    """The weights that minimise the exact expected squared loss: where perfect gradient descent would end."""

    def log_weights(self, train: Tensor) -> Tensor:
        return squared_loss_optimum(self.problem, *self.problem.true_moments())


def squared_loss_optimum(problem: UrnProblem, target_mean: Tensor, target_variance: Tensor) -> Tensor:
    """Log weights [datasets, groups] (mean 0) that minimise the expected squared loss, by BFGS from equal weights.

    The targets are E X_D [datasets, groups] and the sum over the groups of Var(X_D,c) [datasets].

    Raises:
        RuntimeError: the optimizer did not converge.
    """

    def minimum(mean: Tensor, variance: Tensor) -> Tensor:
        def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
            log_weights = torch.tensor(point, dtype=torch.float64, requires_grad=True)
            loss = problem.expected_squared_loss(log_weights, mean, variance)
            (gradient,) = torch.autograd.grad(loss, log_weights)
            return loss.item(), gradient.numpy()

        # The gradient sums to 0 over the groups, so the mean of the log weights stays where it starts.
        start = np.zeros(len(problem.group_sizes))
        result = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-6})
        if not result.success and np.abs(result.jac).max() > 1e-3:
            raise RuntimeError(f"the minimum of the squared loss was not found: {result.message}")
        return torch.from_numpy(result.x - result.x.mean())

    return torch.stack([minimum(*target) for target in zip(target_mean, target_variance, strict=True)])
