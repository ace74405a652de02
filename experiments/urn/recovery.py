"""How far recovered weights are from the true ones, with the scale removed."""

from __future__ import annotations

import pandas as pd
from torch import Tensor, float64, stack

from experiments.urn.problem import UrnProblem, UrnSplits
from mvhg import fit_weights

DATA_STREAM = 0  # of the run's seed: every estimator sees the same datasets under the same seed


def centred(log_weights: Tensor) -> Tensor:
    """Log weights [..., groups] with mean 0: the law does not depend on the scale of the weights."""
    return log_weights - log_weights.mean(-1, keepdim=True)


def fit_each(problem: UrnProblem, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Fits counts [datasets, samples, groups] by maximum likelihood.

    Returns:
        Log weights and their standard errors, each [datasets, groups].
    """
    fits = [fit_weights(dataset, problem.group_sizes) for dataset in counts]
    return stack([fit.log_weights for fit in fits]), stack([fit.standard_errors for fit in fits])


def expected_squared_loss(
    problem: UrnProblem, log_weights: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """E|X_D - X|^2 [...] for X from the exact law under log weights [..., groups], differentiable in them.

    The targets are E X_D [..., groups] and the sum over the groups of Var(X_D,c) [...].
    """
    law = problem.law(log_weights)
    return target_variance + law.variance.sum(-1) + (law.mean - target_mean).square().sum(-1)


def recovery_tables(problem: UrnProblem, splits: UrnSplits, log_weights: Tensor) -> dict[str, pd.DataFrame]:
    """Compares estimates with the truth.

    Args:
        problem: The urn and the true weights.
        splits: The observed counts; the training part gives the standard errors of the maximum-likelihood fit, the
            natural unit of an error.
        log_weights: Estimates, [datasets, groups], at any scale.

    Returns:
        ``metrics``, a line per dataset: ``second_weight``; ``rmse``, the root mean square over the groups of the error
        of the centred log weights; ``rmse_standard_errors``, the same with every error divided by its standard error;
        ``expected_squared_loss`` of the estimate under the exact law against samples of the true law, and
        ``expected_squared_loss_truth``, the same at the true weights.
        ``weights``, a line per dataset and group: ``log_weight`` as estimated, then centred truth, centred estimate
        and the standard error.
    """
    estimate, truth = log_weights.detach().to("cpu", float64), problem.true_log_weights
    errors = centred(estimate) - centred(truth)
    standard_errors = fit_each(problem, splits.train)[1]
    target = problem.true_moments()
    metrics = pd.DataFrame(
        {
            "second_weight": problem.datasets,
            "rmse": errors.square().mean(-1).sqrt(),
            "rmse_standard_errors": (errors / standard_errors).square().mean(-1).sqrt(),
            "expected_squared_loss": expected_squared_loss(problem, estimate, *target),
            "expected_squared_loss_truth": expected_squared_loss(problem, truth, *target),
        }
    )
    num_groups = len(problem.group_sizes)
    weights = pd.DataFrame(
        {
            "second_weight": [weight for weight in problem.datasets for _ in range(num_groups)],
            "group": list(range(1, num_groups + 1)) * problem.num_datasets,
            "log_weight": estimate.flatten(),
            "log_weight_centred": centred(estimate).flatten(),
            "log_weight_true_centred": centred(truth).flatten(),
            "standard_error": standard_errors.flatten(),
        }
    )
    return {"metrics": metrics, "weights": weights}
