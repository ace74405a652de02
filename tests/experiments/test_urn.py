"""The urn's datasets, its squared loss in closed form, the error of recovered weights, and their training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.settings import ExperimentError
from experiments.urn.closed_form import squared_loss_optimum
from experiments.urn.problem import UrnProblem, centred
from experiments.urn.training import UrnModel, UrnTraining
from tests.experiments.clustering_fits import fit
from tests.experiments.helpers import launch
from tests.oracle import EnumeratedLaw, enumerate_law

SETTINGS: dict[str, Any] = {
    "group_sizes": [3, 5, 4],
    "total_count": 5,
    "second_weights": [1, 4],
    "num_datasets": 2,
    "num_samples": 400,
    "train_fraction": 0.75,
}


def make_problem(**changes: Any) -> UrnProblem:
    return UrnProblem(**{**SETTINGS, **changes})


def law_of(log_weights: torch.Tensor) -> EnumeratedLaw:
    return enumerate_law(5, (3, 5, 4), tuple(log_weights.tolist()))


def loss_by_enumeration(model: EnumeratedLaw, data: EnumeratedLaw) -> float:
    differences = model.support[:, None] - data.support[None]  # [points, points, groups]
    return float(model.pmf @ np.square(differences).sum(-1) @ data.pmf)


def targets(problem: UrnProblem) -> tuple[torch.Tensor, torch.Tensor]:
    laws = [law_of(log_weights) for log_weights in problem.true_log_weights]
    means = torch.tensor(np.array([law.mean for law in laws]))
    return means, torch.tensor([np.trace(law.covariance) for law in laws], dtype=torch.float64)


def test_the_decomposition_of_the_squared_loss_agrees_with_enumeration() -> None:
    problem = make_problem()
    log_weights = torch.tensor([[0.3, -1.0, 0.5], [2.0, 0.0, -2.0]], dtype=torch.float64)
    losses = problem.expected_squared_loss(log_weights, *targets(problem))
    expected = [
        loss_by_enumeration(law_of(model), law_of(truth))
        for model, truth in zip(log_weights, problem.true_log_weights, strict=True)
    ]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-10)


def test_the_optimum_of_the_squared_loss_is_a_minimum_and_not_the_truth() -> None:
    problem = make_problem(second_weights=[2, 4])
    optimum = squared_loss_optimum(problem, *targets(problem))
    for found, truth in zip(optimum, problem.true_log_weights, strict=True):
        data = law_of(truth)
        smallest = loss_by_enumeration(law_of(found), data)
        assert smallest < loss_by_enumeration(law_of(truth), data)
        assert (found - centred(truth)).abs().max() > 0.01
        for direction in torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]):
            for step in (-1e-2, 1e-2):
                assert loss_by_enumeration(law_of(found + step * direction), data) > smallest


def test_recovery_does_not_depend_on_the_scale_and_measures_the_error() -> None:
    problem = make_problem()
    splits = problem.draw(torch.Generator().manual_seed(0))
    perfect = problem.recovery(problem.true_log_weights + 3.0, problem.fit(splits.train)[1])
    assert perfect["metrics"]["rmse"].abs().max() < 1e-12
    assert perfect["metrics"]["rmse_standard_errors"].abs().max() < 1e-12
    np.testing.assert_allclose(
        perfect["metrics"]["expected_squared_loss"], perfect["metrics"]["expected_squared_loss_truth"], rtol=1e-12
    )

    shifted = problem.true_log_weights + torch.tensor([0.3, -0.3, 0.0], dtype=torch.float64)
    tables = problem.recovery(shifted, problem.fit(splits.train)[1])
    np.testing.assert_allclose(tables["metrics"]["rmse"], np.sqrt(2 * 0.09 / 3), rtol=1e-12)
    weights = tables["weights"]
    errors = (weights["log_weight_centred"] - weights["log_weight_true_centred"]) / weights["standard_error"]
    expected = np.sqrt(np.square(errors.to_numpy().reshape(2, 3)).mean(1))
    np.testing.assert_allclose(tables["metrics"]["rmse_standard_errors"], expected, rtol=1e-12)
    assert weights["group"].tolist() == [1, 2, 3] * 2
    assert weights["second_weight"].tolist() == [1] * 3 + [4] * 3


@pytest.mark.parametrize("data_law", ["exact", "merged"])
def test_datasets_follow_the_seed_and_the_split(data_law: str) -> None:
    problem = make_problem(data_law=data_law)
    first, again, other = (problem.draw(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.train.shape == (2, 300, 3)
    assert first.validation.shape == (2, 100, 3)
    assert (first.train.sum(-1) == 5).all()
    assert torch.equal(first.train, again.train)
    assert not torch.equal(first.train, other.train)
    assert make_problem(second_weights=[1, 4, 9], num_datasets=2).datasets == [1, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_weights": [2, 2]}, "second_weights must be distinct"),
        ({"num_datasets": 3}, "num_datasets must lie in"),
        ({"total_count": 12}, r"total_count must lie in \[1, 11\], got 12"),
        ({"total_count": 0}, "total_count"),
        ({"group_sizes": [3, 0, 4]}, "group_sizes"),
        ({"num_samples": 1}, "num_samples and train_fraction"),
        ({"train_fraction": 1.0}, "num_samples and train_fraction"),
    ],
)
def test_bad_problems_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_problem(**changes)


@pytest.mark.parametrize("estimator", ["exact", "maximum_likelihood"])
def test_samples_that_cannot_be_fitted_are_named_before_a_training(estimator: str, tmp_path: Path) -> None:
    extreme = ("experiment.problem.second_weights=[1e9]", "experiment.problem.num_datasets=1")
    with pytest.raises(
        ExperimentError, match=r"^experiment\.problem: the samples of second weight 1e\+09 can't be fitted"
    ):
        launch(f"urn estimator={estimator}", tmp_path, *extreme)
    assert not list(tmp_path.rglob("*.ckpt"))


TRAINING: dict[str, Any] = {
    "conditionals": "exact",
    "group_order": None,
    "temperature": 0.5,
    "learning_rate": 0.01,
    "learning_rate_decay": 0.9,
    "batch_size": 1,
    "max_epochs": 3,
    "record_every": 10,
}
STEPS = 48


def make_settings(num_datasets: int = 3, **changes: Any) -> UrnTraining:
    problem = make_problem(second_weights=[1, 3, 7], num_datasets=num_datasets, num_samples=20, train_fraction=0.8)
    return UrnTraining(problem=problem, **TRAINING | changes)


def make_model(
    kind: type[UrnModel] = UrnModel, counts: tuple[torch.Tensor, ...] = (), num_datasets: int = 3, **changes: Any
) -> UrnModel:
    train, validation = counts or make_counts()
    return kind(make_settings(num_datasets, **changes), train, validation, noise_seed=5, validation_noise_seed=6)


def make_counts() -> tuple[torch.Tensor, ...]:
    """For training and validation, [samples, datasets, groups]."""
    splits = make_settings().problem.draw(torch.Generator().manual_seed(3))
    return tuple(part.transpose(0, 1).float() for part in splits)


class NoiselessModel(UrnModel):
    """Draws the mean of the exact law instead of a sample: the same gradient whatever else is trained beside it."""

    def draw(self, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        return self.settings.problem.law(self.log_weights).mean.expand(num_samples, -1, -1)


def test_training_at_once_equals_separate_runs_and_the_curves_are_complete() -> None:
    together = make_model(NoiselessModel)
    fit(together, TRAINING["max_epochs"], steps_per_chunk=5)
    assert together.log_weights.abs().max() > 0.1
    curves = together.curves
    assert curves.shape == (STEPS // TRAINING["record_every"] + 1, 3, 5)
    assert torch.isnan(curves[0, :, 3]).all()  # there was no training yet
    assert (curves[0, :, :3] == 0).all()
    assert torch.isfinite(curves[1:]).all() and torch.isfinite(curves[0, :, 4]).all()
    for dataset in range(3):
        alone = make_model(NoiselessModel, tuple(part[:, dataset : dataset + 1] for part in make_counts()), 1)
        fit(alone, TRAINING["max_epochs"])
        torch.testing.assert_close(alone.log_weights[0], together.log_weights[dataset], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.curves[:, 0], curves[:, dataset], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_the_loss_is_the_sum_over_groups_and_the_mean_over_the_batch() -> None:
    model = make_model()
    observed = torch.tensor([[[3.0, 3.0, 3.0]] * 3, [[1.0, 5.0, 3.0]] * 3])
    drawn = torch.tensor([[[2.0, 4.0, 3.0]] * 3, [[1.0, 2.0, 6.0]] * 3])
    model.draw = lambda num_samples, generator: drawn  # type: ignore[method-assign]
    assert model.squared_loss(observed, torch.Generator()).tolist() == [(2 + 18) / 2] * 3


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], "sorted"])
def test_an_order_that_is_none_is_refused(order: Any) -> None:
    with pytest.raises(ValueError, match="group_order"):
        make_settings(group_order=order)


def test_merged_conditionals_have_one_name_for_their_own_order() -> None:
    with pytest.raises(ValueError, match=r"group_order is null, .* merged conditionals at \[0, 1, 2\]; write that"):
        make_settings(conditionals="merged", group_order=None)
