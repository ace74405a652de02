"""Training of the VAEs of image pairs: what a step sees, what it records, temperatures, learning rates, precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.settings import ExperimentError
from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import Context
from experiments.weak_supervision.methods.posterior_hgvae import PosteriorHGVAE
from experiments.weak_supervision.training import PairTraining
from tests.experiments import weak_supervision_reference as reference
from tests.experiments.weak_supervision_fits import (
    LATENTS,
    SETTINGS,
    RecordedTraining,
    fit,
    generator,
    make_images,
    make_model,
    make_training,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_STEP: dict[str, Any] = {"steps": 1, "epoch_steps": 1, "chunk_steps": 1}
BASE_TERMS = ["bound", "reconstruction", "divergence", "expected_count", "drawn_count", "temperature"]


def test_a_step_takes_the_bound_of_the_pairs_that_the_generator_draws() -> None:
    """The steps of a chunk, from the bytes of the images to the recorded terms, in NumPy; the weights stay."""
    training = make_training("label_vae", steps=3, epoch_steps=3, chunk_steps=3, learning_rate=1e-12)
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.mul_(1.7)  # the first weights hardly tell images apart
    parameters = reference.parameters_of(training.model)
    fit(training)
    source, images, batch = generator(), make_images(), SETTINGS["batch_size"]
    pairs = PairSampler(images.grid, torch.arange(images.grid.num_images), 4).sample(3 * batch, source)
    for step, values in enumerate(training.recorded):
        part = pairs[slice(step * batch, (step + 1) * batch)]
        noise = torch.randn(2, batch, LATENTS, generator=source).double().numpy()
        pixels = images.images.numpy()[part.index.flatten().numpy()].transpose(0, 3, 1, 2) / 255
        independent = np.eye(LATENTS)[part.label.numpy()]
        expected = reference.bound(parameters, pixels, noise, independent, "arithmetic", "per_view")
        recorded = dict(zip(training.term_names, values))
        assert recorded["reconstruction"] == pytest.approx(expected.reconstruction, rel=1e-5)
        assert recorded["divergence"] == pytest.approx(expected.divergence, rel=1e-4)
        assert recorded["bound"] == pytest.approx(expected.reconstruction - expected.divergence, rel=1e-5)
        assert recorded["drawn_count"] == recorded["expected_count"] == 1
    assert np.ptp(training.term("bound")) > 2


@pytest.fixture(scope="module")
def hgvae_training() -> RecordedTraining:
    """Two epochs of ten steps."""
    training = make_training("hgvae")
    fit(training)
    return training


def test_the_history_holds_the_means_of_every_epochs_terms(hgvae_training: RecordedTraining) -> None:
    training = hgvae_training
    own = ["log_weight_difference", "weights_gradient"]
    assert [list(record) for record in training.history] == 2 * [["epoch", *BASE_TERMS, *own]]
    assert len(training.recorded) == 20
    for epoch, record in enumerate(training.history):
        steps = np.array(training.recorded)[10 * epoch : 10 * (epoch + 1)]
        assert record["epoch"] == epoch + 1
        np.testing.assert_allclose([record[name] for name in training.term_names], steps.mean(0), rtol=1e-5)
        assert 0 < record["weights_gradient"] < math.inf
        assert 0 <= record["expected_count"] <= LATENTS
        assert record["bound"] == pytest.approx(record["reconstruction"] - record["divergence"], rel=1e-5)


def test_the_temperature_falls_exponentially_and_then_stays(hgvae_training: RecordedTraining) -> None:
    expected = [10 * math.exp(-min(step, 12) / 12 * math.log(10 / 0.01)) for step in range(20)]
    np.testing.assert_allclose(hgvae_training.term("temperature"), expected, rtol=1e-5)


def test_the_recorded_gradient_is_that_of_the_dense_layer_at_the_step() -> None:
    training, model = make_training("hgvae", **ONE_STEP), make_model("hgvae")
    fit(training)
    images, batch, source = make_images(), SETTINGS["batch_size"], generator()
    pairs = PairSampler(images.grid, torch.arange(images.grid.num_images), 4).sample(batch, source)
    noise = torch.randn(2, batch, LATENTS, generator=source)
    views = load_batch(images, pairs.index, torch.device("cpu"))
    terms, _ = model(views, noise, Context(pairs.label, torch.tensor(10.0), source))
    (terms.divergence - terms.reconstruction).mean().backward()
    expected = model.get_parameter("weights.weight").grad
    assert expected is not None
    assert training.term("weights_gradient") == [pytest.approx(expected.norm().item(), rel=1e-3)]


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_the_dense_layer_has_a_learning_rate_of_its_own(factor: float) -> None:
    """Adam's first step moves every parameter by the learning rate."""
    training = make_training("hgvae", model={"weights_learning_rate_factor": factor}, **ONE_STEP)
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    trainer = fit(training)
    moved = {name: (value - before[name]).abs().max().item() for name, value in training.model.named_parameters()}
    rate = SETTINGS["learning_rate"]
    assert moved["weights.bias"] == pytest.approx(factor * rate, rel=0.02, abs=1e-9)
    assert moved["encoder.heads.weight"] == pytest.approx(rate, rel=0.02)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [rate, factor * rate]
    assert trainer.optimizers[0].defaults["betas"] == (0.9, 0.999)
    assert trainer.optimizers[0].defaults["eps"] == 1e-8


def test_a_batch_holds_all_first_views_first() -> None:
    images = make_images()
    index = torch.tensor([[3, 100, 7], [500, 2, 7]])
    batch = load_batch(images, index, torch.device("cpu"))
    assert batch.shape == (6, 3, 32, 32) and batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for place_, number in enumerate([3, 100, 7, 500, 2, 7]):
        expected = images.images.numpy()[number].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(batch[place_], expected, rtol=1e-6)
    assert images.images.dtype == torch.uint8


def test_images_go_to_a_device_whole_where_half_of_its_memory_holds_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The device without memory stands for a GPU."""
    images = make_images()
    size = images.grid.num_images * 32 * 32 * 3
    device = torch.device("meta")

    def placed(free: int, source: FactorImages = images) -> str:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
        return str(source.placed(device).images.device)

    assert placed(2 * size) == "meta" and not caplog.messages
    assert placed(2 * size - 1) == "cpu"
    assert "they stay on the host, and every batch is copied" in caplog.text
    assert images.placed(torch.device("cpu")) is images
    # Images in another order, or more than the grid's, are put into its order on the way.
    order = torch.arange(images.grid.num_images).flip(0)
    turned = FactorImages("turned", images.grid, torch.cat([images.images.flip(0), images.images]), order)
    assert placed(2 * size, turned) == "meta"
    moved = turned.placed(device)
    assert moved.rows is None and len(moved.images) == images.grid.num_images
    views = load_batch(turned, torch.tensor([[5], [9]]), torch.device("cpu"))
    torch.testing.assert_close(views, load_batch(images, torch.tensor([[5], [9]]), torch.device("cpu")))


@pytest.mark.parametrize("method", ["hgvae", "ada_vae"])
def test_half_precision_is_for_the_networks_alone(method: str) -> None:
    plain, mixed = (make_training(method, steps=2, epoch_steps=2, chunk_steps=2) for _ in range(2))
    fit(plain)
    fit(mixed, precision="bf16-mixed")
    for name in ("bound", "reconstruction"):
        assert mixed.history[0][name] == pytest.approx(plain.history[0][name], rel=1e-2), name
    assert mixed.history != plain.history
    assert all(parameter.dtype == torch.float32 for parameter in mixed.parameters())


@pytest.mark.parametrize(
    ("step", "layer", "message"),
    [
        (4, "weights", "step 4 (epoch 1): the term weights_gradient is"),
        (4, "encoder", "step 4 (epoch 1): the parameter model.encoder.convolutions.0.weight is"),
        (5, "encoder", "step 5 (epoch 1): the parameter model.encoder.convolutions.0.weight is"),  # the chunk's last
        (10, "encoder", "step 10 (epoch 1): the parameter model.encoder.convolutions.0.weight is"),  # the epoch's last
    ],
)
def test_gradients_that_are_not_finite_are_named_whatever_they_break_next(
    step: int, layer: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step of HGVAE can't be taken: its urn has no weights."""
    original = PairTraining.gradient_terms

    def poisoned(self: PairTraining) -> Tensor:
        if self.steps_taken == step - 1:
            for parameter in getattr(self.model, layer).parameters():
                parameter.grad.fill_(math.nan)
        return original(self)

    monkeypatch.setattr(PairTraining, "gradient_terms", poisoned)
    with pytest.raises(ExperimentError) as error:
        fit(make_training("hgvae"))
    assert str(error.value).startswith(message + " not finite; stopped, and the last checkpoint is kept")


def test_a_step_that_can_not_be_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    training = make_training("hgvae")
    original = training.model.encoder.forward

    def overflowing(images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = original(images)
        return mean, log_variance + (1000 * torch.arange(len(mean))[:, None] if training.steps_taken == 6 else 0)

    monkeypatch.setattr(training.model.encoder, "forward", overflowing)
    with pytest.raises(ExperimentError, match=r"step 7 \(epoch 1\): log_weights must be finite.*nan.*; stopped"):
        fit(training)


def test_a_model_that_is_fitted_is_so_between_steps_and_when_the_annealing_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = {"steps": 18, "epoch_steps": 6, "chunk_steps": 2, "annealing_steps": 5}
    training = make_training("posterior_hgvae", model={"fit_every_steps": 4}, **steps)
    fitted, original = list[tuple[int, float]](), PosteriorHGVAE.fit

    def watched(model: PosteriorHGVAE, mean: Tensor, log_variance: Tensor, progress: float) -> None:
        assert mean.shape == log_variance.shape == (2, 512, LATENTS)
        original(model, mean, log_variance, progress)
        fitted.append((training.steps_taken, progress))

    monkeypatch.setattr(PosteriorHGVAE, "fit", watched)
    fit(training)
    assert fitted == [(8, 8 / 18), (12, 12 / 18), (16, 16 / 18)]
    weights = training.term("log_weight")
    assert weights[:8] == [0.0] * 8 and weights[8] == weights[11] != weights[12]
    assert training.model.limit.item() == pytest.approx(0.05 * 10 ** (16 / 18))


def test_a_fit_that_fails_stops_the_training_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise ValueError("the fit is not finite")

    monkeypatch.setattr(PosteriorHGVAE, "fit", refused)
    training = make_training("posterior_hgvae", model={"fit_every_steps": 5}, annealing_steps=1)
    with pytest.raises(ExperimentError, match=r"step 5 \(epoch 1\): the fit is not finite; stopped"):
        fit(training)
