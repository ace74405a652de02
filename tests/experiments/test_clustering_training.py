"""The VaDE's training: learning rate, warm-up, annealing, corruption, the compiled bound."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits
from experiments.clustering.training import TrainingSettings, VaDETraining
from tests.experiments.clustering_fits import BATCH, DIGITS, STEPS, WIDTHS, byte_images, fit, generator
from tests.experiments.clustering_reference import PRIORS, Parameters, ReferenceBound, make_vade, parameters_of

SETTINGS: dict[str, Any] = {
    "max_epochs": 4,
    "batch_size": BATCH,
    "learning_rate": 1e-3,
    "learning_rate_decay": 0.5,
    "decay_epochs": 2,
    "minimum_learning_rate": 0.0,
    "adam_epsilon": 1e-8,
    "initial_temperature": 1.0,
    "final_temperature": 0.1,
    "annealing_share": 0.5,
    "warm_up_epochs": 0,
    "score_every": 100,
    "compile": False,
}


def vade_training(
    prior: str = "uniform", corruption: Corruption | None = None, widths: tuple[int, ...] = WIDTHS, **settings: Any
) -> VaDETraining:
    labels = torch.arange(DIGITS) % 3
    images = byte_images()[:, : widths[0]]
    splits = Splits(images, labels, images, labels, torch.arange(DIGITS), "made up", "full", "none")
    model = VaDETraining(
        vade=make_vade(PRIORS[prior](3), widths),
        splits=splits,
        settings=TrainingSettings(**SETTINGS | settings),
        corruption=corruption or Corruption(),
        noise_seed=5,
    )
    model.generator = generator()
    return model


def loss_at(model: VaDETraining, step: int) -> tuple[float, list[float]]:
    model.steps_taken, model.generator = step, generator()
    loss, terms = model.step_loss(model.images[:4].float() / 255, torch.arange(4))
    return loss.item(), terms.tolist()


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        (0.0, [10, 10, 5, 5, 2.5, 2.5, 1.25, 1.25, 0.625]),
        (2e-4, [10, 10, 5, 5, 2.5, 2.5, 2, 2, 2]),
        (2e-3, [10] * 9),  # a floor above the first rate doesn't raise it
    ],
)
def test_the_learning_rate_decays_to_its_floor(floor: float, expected: list[float]) -> None:
    model = vade_training(minimum_learning_rate=floor, max_epochs=9)
    np.testing.assert_allclose([model.learning_rate(epoch) for epoch in range(9)], 1e-4 * np.array(expected))
    rates = fit(model, 9).rates
    np.testing.assert_allclose([rate for (rate,) in rates], 1e-4 * np.repeat(expected, STEPS))
    np.testing.assert_allclose([record["learning_rate"] for record in model.history], 1e-4 * np.array(expected))


@pytest.mark.parametrize("prior", ["categorical", "hypergeometric"])
def test_warm_up_weighs_all_terms_but_the_reconstruction_step_by_step(prior: str) -> None:
    model = vade_training(prior, warm_up_epochs=2)
    noise = model.vade.draw_noise(4, generator())
    p = parameters_of(model.vade)
    expected = ReferenceBound(model.vade.prior, p, model.images[:4].double() / 255, noise, 1.0).terms(p)
    bound = math.fsum(expected.values())
    rest = bound - expected["reconstruction"]
    for step, weight in {0: 1 / 6, 1: 2 / 6, 4: 5 / 6, 5: 1.0, 6: 1.0, 50: 1.0}.items():
        loss, terms = loss_at(model, step)
        assert loss == pytest.approx(-(expected["reconstruction"] + weight * rest), rel=1e-4), step
        assert terms[0] == pytest.approx(bound, rel=1e-4), "the history holds the whole bound"
    assert loss_at(vade_training(prior), 0)[0] == pytest.approx(-bound, rel=1e-4)


@pytest.mark.parametrize(("share", "steps"), [(0.5, 6), (1.0, 12)])
def test_the_temperature_falls_exponentially_over_its_share_of_the_steps(share: float, steps: int) -> None:
    model = vade_training("hypergeometric", annealing_share=share)
    used, bound = [], model.bound

    def recorded(images: Tensor, noise: Any, temperature: Tensor, inputs: Tensor) -> Any:
        used.append(temperature.item())
        return bound(images, noise, temperature, inputs)

    model.bound = recorded
    fit(model, 4)
    np.testing.assert_allclose(used, [10 ** -min(step / steps, 1) for step in range(12)], rtol=1e-5)


class CorruptedReference(ReferenceBound):
    """The encoder sees other images than those of the bound."""

    def __init__(self, inputs: Tensor, *arguments: Any) -> None:
        self.inputs = inputs.double().numpy()
        super().__init__(*arguments)

    def encode(self, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
        clean, self.images = self.images, self.inputs
        try:
            return super().encode(p)
        finally:
            self.images = clean


def test_the_encoder_sees_corrupted_images_and_the_target_stays_clean() -> None:
    corruption = Corruption(dropout=0.4, rotation=20.0)
    model = vade_training("categorical", corruption)
    images, source, p = model.images[:4].float() / 255, generator(), parameters_of(model.vade)
    inputs = corruption(images, source)
    assert not torch.allclose(inputs, images)
    noise = model.vade.draw_noise(4, source)
    expected = CorruptedReference(inputs, model.vade.prior, p, images, noise, 1.0).terms(p)
    loss, terms = loss_at(model, 0)
    np.testing.assert_allclose(terms[1:], list(expected.values()), rtol=1e-4)
    assert loss == pytest.approx(-math.fsum(expected.values()), rel=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports deprecated parts of torch
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
def test_compiled_steps_have_the_losses_of_plain_ones() -> None:
    """Half a minute, the compiler's: two steps of one shape, compiled once; the second one shows the gradients."""
    losses = []
    for compile in (False, True):
        model = vade_training(
            "categorical", widths=(6, 4, 2), compile=compile, batch_size=DIGITS, learning_rate=0.05, max_epochs=2
        )
        fit(model, 2)
        losses.append([[record[name] for name in model.term_names] for record in model.history])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert abs(losses[0][1][0] / losses[0][0][0] - 1) > 0.05, "the step changes the loss far more"
