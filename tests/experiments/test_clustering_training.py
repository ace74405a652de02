"""The VaDE's training: loss, learning rate, annealing, the order of the digits, the time said beforehand."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments import training as floor
from experiments.clustering.data import Splits
from experiments.clustering.training import TrainingSettings, VaDETraining
from experiments.store import TRAINED_AT
from experiments.training import RateEstimate
from tests.experiments.clustering_fits import BATCH, DIGITS, STEPS, WIDTHS, byte_images, fit, generator
from tests.experiments.clustering_reference import PRIORS, ReferenceBound, make_vade, parameters_of
from tests.experiments.helpers import compose

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
    "score_every": 100,
    "prior_learning_rate_factor": 1.0,
    "encoder_learning_rate_factor": 1.0,
    "kl_weight": 1.0,
}


def vade_training(prior: str = "uniform", **settings: Any) -> VaDETraining:
    labels = torch.arange(DIGITS) % 3
    images = byte_images()
    model = VaDETraining(
        vade=make_vade(PRIORS[prior](3), WIDTHS),
        splits=Splits(images, labels, images, labels, torch.arange(DIGITS)),
        found=labels,
        settings=TrainingSettings(**SETTINGS | settings),
        noise_seed=5,
    )
    model.generator = generator()
    return model


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        (0.0, [10, 10, 5, 5, 2.5, 2.5, 1.25, 1.25, 0.625]),
        (2e-4, [10, 10, 5, 5, 2.5, 2.5, 2, 2, 2]),
        (1e-3, [10] * 9),
    ],
)
def test_the_learning_rate_decays_to_its_floor(floor: float, expected: list[float]) -> None:
    model = vade_training(minimum_learning_rate=floor, max_epochs=9)
    rates = fit(model, 9).rates
    np.testing.assert_allclose([rate for (rate,) in rates], 1e-4 * np.repeat(expected, STEPS))
    np.testing.assert_allclose([record["learning_rate"] for record in model.history], 1e-4 * np.array(expected))


def test_the_recipes_are_the_documented_ones() -> None:
    """Jiang et al. 2017 for VaDE; the guidance of `n2d` stays; on the control's blobs the encoder does."""
    vade, n2d = (compose(f"clustering recipe={recipe}").experiment.training for recipe in ("vade", "n2d"))
    assert (vade.learning_rate, vade.learning_rate_decay, vade.decay_epochs) == (0.002, 0.9, 10)
    assert (vade.minimum_learning_rate, vade.adam_epsilon, vade.batch_size) == (2e-4, 1e-4, 100)
    assert (n2d.learning_rate, n2d.learning_rate_decay, n2d.batch_size) == (2e-4, 1.0, 128)
    assert n2d.guidance_weight == n2d.final_guidance_weight == 10.0
    assert compose("clustering_control").experiment.training.encoder_learning_rate_factor == 0
    assert {group["eps"] for group in vade_training(adam_epsilon=1e-4).configure_optimizers().param_groups} == {1e-4}


def test_the_loss_with_guidance_and_a_kl_weight() -> None:
    """Kept guidance: the mean log q of the clusters that were found; its weight goes from first to last in a line."""
    model = vade_training("categorical", guidance_weight=8.0, final_guidance_weight=2.0, kl_weight=3.0)
    noise, p = model.vade.draw_noise(4, generator()), parameters_of(model.vade)
    reference = ReferenceBound(model.vade.prior, p, model.rows[:4].double() / 255, noise, 1.0)
    terms = reference.terms(p)
    q = reference.responsibilities(p, reference.latents(p))
    agreement = np.log(q[np.arange(4), model.found[:4].numpy()]).mean()
    rest = terms["latent"] + terms["assignment"] + terms["prior_term"]
    for step, weight in ((0, 8.0), (4, 8 - 6 * 4 / 11), (11, 2.0)):
        model.steps_taken, model.generator = step, generator()
        model.step_optimizer()
        loss, found = model.step_loss(model.rows[:4], torch.arange(4))
        assert loss.item() == pytest.approx(-terms["reconstruction"] - 3 * rest - weight * agreement, rel=1e-4)
        assert found[-1].item() == pytest.approx(agreement, rel=1e-4)


def test_prior_and_encoder_have_rates_of_their_own() -> None:
    """Adam's first step moves every parameter by its rate; a factor of 0 keeps the encoder as it is."""
    model = vade_training("hypergeometric", prior_learning_rate_factor=50.0, encoder_learning_rate_factor=0.0)
    recorder = fit(model, 1)
    assert recorder.changed(0) == {
        *(f"vade.autoencoder.decoder.{layer}" for layer in range(3)),
        "vade.mixture",
        "vade.prior",
    }
    before, after = (parameters["vade.prior.raw_log_weights"] for parameters in recorder.parameters[:2])
    np.testing.assert_allclose((after - before).abs().max(), 0.05, rtol=0.01)


@pytest.mark.parametrize(("share", "steps"), [(0.5, 6), (1.0, 12)])
def test_the_temperature_falls_exponentially_over_its_share_of_the_steps(share: float, steps: int) -> None:
    model = vade_training("hypergeometric", annealing_share=share)
    used, bound = [], model.vade.terms

    def recorded(images: Tensor, noise: Any, temperature: Tensor) -> Any:
        used.append(temperature.item())
        return bound(images, noise, temperature)

    model.vade.terms = recorded  # type: ignore[method-assign]
    fit(model, 4)
    np.testing.assert_allclose(used, [10 ** -min(step / steps, 1) for step in range(12)], rtol=1e-5)


@pytest.mark.parametrize("steps_per_chunk", [1, 2, 50])
def test_every_epoch_takes_every_digit_once_in_an_order_of_seed_and_epoch(steps_per_chunk: int) -> None:
    """Whatever the size of the chunks, so that it may change without a change of the numbers."""
    orders = []
    for seed in (7, 8):
        taken: list[Tensor] = []
        model = vade_training()
        given = model.steps

        def steps(chunk: int, given: Any = given, taken: list[Tensor] = taken) -> Any:
            for images, indices in given(chunk):
                taken.append(indices)
                yield images, indices

        model.steps = steps  # type: ignore[method-assign]
        fit(model, 2, steps_per_chunk, order_seed=seed)
        assert [len(indices) for indices in taken] == [BATCH, BATCH, DIGITS - 2 * BATCH] * 2
        orders += [torch.cat(taken[:STEPS]).tolist(), torch.cat(taken[STEPS:]).tolist()]
    assert all(sorted(order) == list(range(DIGITS)) for order in orders)
    first, second = (torch.randperm(DIGITS, generator=generator(7 + epoch)).tolist() for epoch in (0, 1))
    assert orders[:2] == [first, second]
    assert orders[2] == second, "seeds of runs are far apart, those of epochs follow each other"


@pytest.mark.parametrize("resumed_at", [0, 1000])
def test_the_time_left_is_said_once_from_the_rate_after_the_first_chunk_and_written_again_and_again(
    resumed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first chunk takes a minute, the others 50 steps in 2 s each: 25 steps/s."""
    clock = itertools.count(60.0, 2.0)
    monkeypatch.setattr(floor.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(floor.time, "time", lambda: 1000.0)
    caplog.set_level(logging.INFO, "experiments")
    trainer = SimpleNamespace(max_epochs=62, default_root_dir=tmp_path)
    training, estimate = vade_training(), RateEstimate()
    training.steps_per_epoch, training.steps_taken = 100, resumed_at
    said: list[int] = []
    for _ in range(10):
        training.steps_taken += 50
        estimate.on_train_batch_end(trainer, training)  # type: ignore[arg-type]
        said.append(len(caplog.messages))
    assert said == [0, 0, 0] + [1] * 7
    left = 62 * 100 - 200 - resumed_at
    assert caplog.messages == [f"  25.0 steps/s: {left / 25 / 60:.1f} minutes for the {left} steps left"]
    left -= 5 * 50  # ten seconds later
    assert float((tmp_path / TRAINED_AT).read_text()) == pytest.approx(1000 + left / 25, abs=1)
