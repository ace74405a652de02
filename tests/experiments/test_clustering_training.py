"""Steps of the three trainings against NumPy: losses, learning rates, which layers move, what is corrupted."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy import special, stats
from torch import Tensor

from experiments.clustering.autoencoder_training import AutoencoderTraining
from experiments.clustering.chunked import ChunkedTraining
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits, index_chunks
from experiments.clustering.embedding_mixture import component_moments
from experiments.clustering.guided_training import GuidedTraining
from experiments.clustering.networks import Autoencoder
from experiments.clustering.priors import UniformPrior
from experiments.clustering.training import TrainingSettings, VaDETraining
from experiments.clustering.vade import VaDE
from tests.experiments.clustering_reference import PRIORS, Parameters, ReferenceBound, make_vade, parameters_of

WIDTHS = (16, 7, 5, 3)
DIGITS, BATCH = 10, 4  # three steps per epoch, the last one smaller
STEPS = 3


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def byte_images(digits: int = DIGITS, seed: int = 3) -> Tensor:
    return torch.randint(256, (digits, WIDTHS[0]), generator=generator(seed), dtype=torch.uint8)


class Recorder(pl.Callback):
    """Keeps the parameters before and after every step and the learning rate that each optimizer has."""

    def __init__(self) -> None:
        self.parameters: list[dict[str, Tensor]] = []
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parameters.append({name: value.detach().clone() for name, value in pl_module.named_parameters()})

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.on_train_start(trainer, pl_module)
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    def changed(self, step: int) -> set[str]:
        """The layers that a step changes."""
        before, after = self.parameters[step : step + 2]
        return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def fit(model: ChunkedTraining, epochs: int, steps_per_chunk: int = 1, order_seed: int = 0) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, index_chunks(len(model.images), model.batch_size, steps_per_chunk, order_seed))
    return recorder


# The guided epochs.


def guided(
    vade: VaDE,
    weight: float = 2.0,
    epochs: int = 4,
    learning_rate: float = 0.01,
    batch_size: int = BATCH,
    images: Tensor | None = None,
    assignments: Tensor | None = None,
) -> GuidedTraining:
    images = byte_images() if images is None else images
    if assignments is None:
        assignments = torch.randint(3, (len(images),), generator=generator(11))
    return GuidedTraining(
        vade=vade,
        images=images,
        assignments=assignments,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight=weight,
        noise_seed=5,
    )


def guided_terms(p: Parameters, images: Tensor, assigned: np.ndarray, noise: Any) -> dict[str, float]:
    """The bound with the given clusters, and the mean of log p(c = assigned | z) under the uniform prior."""
    reference = ReferenceBound(UniformPrior(num_clusters=3), p, images.double() / 255, noise, 1.0)
    mean, variance = reference.encode(p)
    means = p["mixture.means"][assigned]
    deviations = np.exp(p["mixture.raw_log_variances"][assigned] / 2)
    divergence = np.log(deviations) - np.log(variance) / 2 - 0.5
    divergence += (variance + (mean - means) ** 2) / (2 * deviations**2)
    latents = reference.latents(p)
    scales = np.exp(p["mixture.raw_log_variances"] / 2)
    densities = stats.norm.pdf(latents[:, None], p["mixture.means"], scales).prod(-1)
    chosen = densities[np.arange(len(assigned)), assigned]
    terms = {
        "reconstruction": reference.terms(p)["reconstruction"],
        "latent": -float(divergence.sum(1).mean()),
        "assignment": 0.0,
        "prior_term": -math.log(3),
    }
    return {
        "elbo": math.fsum(terms.values()),
        **terms,
        "separation": float(np.log(chosen / densities.sum(1)).mean()),
    }


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_loss_of_a_guided_step_is_the_bound_with_given_clusters_and_the_separation(weight: float) -> None:
    model = guided(make_vade(UniformPrior(num_clusters=3), WIDTHS), weight)
    model.generator = generator()
    indices = torch.tensor([7, 2, 9, 0])
    assert len(set(model.assignments[indices].tolist())) > 1
    assert model.assignments[indices].tolist() != model.assignments[:4].tolist()
    loss, terms = model.step_loss(model.images[indices].float() / 255, indices)
    noise = model.vade.draw_noise(4, generator())
    expected = guided_terms(parameters_of(model.vade), model.images[indices], model.assignments[indices].numpy(), noise)
    np.testing.assert_allclose(terms.detach(), [expected[name] for name in model.term_names], rtol=1e-4, atol=1e-5)
    assert loss.item() == pytest.approx(-expected["elbo"] - weight * expected["separation"], rel=1e-4)


def test_guided_epochs_take_every_digit_with_its_own_cluster() -> None:
    """At learning rate 0 the history holds the means over steps of the terms of the shuffled digits."""
    model = guided(make_vade(UniformPrior(num_clusters=3), WIDTHS), learning_rate=0.0)
    loader = index_chunks(DIGITS, BATCH, 2, seed=1)
    order = torch.cat(list(loader))
    assert order.tolist() != sorted(order.tolist())
    fit(model, 1, steps_per_chunk=2, order_seed=1)
    source, p, steps = generator(), parameters_of(model.vade), []
    for indices in order.split(BATCH):
        noise = model.vade.draw_noise(len(indices), source)
        steps.append(guided_terms(p, model.images[indices], model.assignments[indices].numpy(), noise))
    for name in model.term_names:
        mean = np.mean([terms[name] for terms in steps])
        assert model.history[0][name] == pytest.approx(mean, rel=1e-4, abs=1e-5), name


def test_the_guided_learning_rate_falls_to_a_tenth_by_a_half_cosine() -> None:
    recorder = fit(guided(make_vade(UniformPrior(num_clusters=3), WIDTHS)), epochs=4)
    rates = [rate for (rate,) in recorder.rates]
    assert len(rates) == 12
    cosines = {0: 1.0, 3: math.sqrt(0.5), 4: 0.5, 6: 0.0, 8: -0.5, 9: -math.sqrt(0.5)}
    for step, cosine in cosines.items():
        assert rates[step] == pytest.approx(0.01 * (0.1 + 0.45 * (1 + cosine))), step
    assert 0.001 < rates[-1] < 0.0012
    model = guided(make_vade(UniformPrior(num_clusters=3), WIDTHS))
    model.steps_taken = 12
    assert model.step_optimizer() == (0, pytest.approx(0.001))


def test_guided_epochs_separate_the_given_clusters_and_more_so_with_the_weight() -> None:
    """Three groups of images; the components start on the wrong ones. The bound alone, with weight 0, does worse."""
    patterns = torch.zeros(3, WIDTHS[0])
    for group in range(3):
        patterns[group, 5 * group : 5 * group + 5] = 1
    groups = torch.arange(60) % 3
    noise = torch.rand(60, WIDTHS[0], generator=generator(21))
    images = ((0.75 * patterns[groups] + 0.25 * noise) * 255).to(torch.uint8)
    assignments = torch.tensor([2, 0, 1])[groups]
    before, after, separation = {}, {}, {}
    for weight in (0.0, 10.0):
        vade = VaDE(
            widths=WIDTHS,
            prior=UniformPrior(num_clusters=3),
            minimum_variance=1e-4,
            initial_variance=0.1,
            generator=generator(22),
        )
        pixels = images.float() / 255
        vade.mixture.initialise(*component_moments(vade.assign(pixels, BATCH)[1], assignments.roll(1), 3))
        before[weight] = (vade.assign(pixels, BATCH)[0] == assignments).double().mean().item()
        model = guided(vade, weight, 60, 0.02, batch_size=20, images=images, assignments=assignments)
        fit(model, 60, steps_per_chunk=3)
        after[weight] = (vade.assign(pixels, BATCH)[0] == assignments).double().mean().item()
        separation[weight] = model.history[-1]["separation"]
    assert before[10.0] < 0.5
    assert after[10.0] > 0.98
    assert separation[10.0] > max(-0.05, separation[0.0])


# The autoencoder.


def stacked(layer_epochs: int = 2, finetune_epochs: int = 4, **corruptions: Any) -> AutoencoderTraining:
    source = generator(1)
    autoencoder = Autoencoder(WIDTHS, source)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.3 * torch.empty_like(parameter).normal_(generator=source))
    return AutoencoderTraining(
        autoencoder=autoencoder,
        images=byte_images(),
        batch_size=BATCH,
        layer_epochs=layer_epochs,
        finetune_epochs=finetune_epochs,
        learning_rate=0.01,
        layer_dropout=corruptions.get("layer_dropout", 0.0),
        corruption=corruptions.get("corruption", Corruption()),
        noise_seed=5,
    )


ALL_LAYERS = {f"autoencoder.{half}.{layer}" for half in ("encoder", "decoder") for layer in range(3)}
# Half a cosine in six and in twelve steps.
SIX = [1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]
TWELVE = [0.5 * (1 + math.cos(math.radians(15 * step))) for step in range(12)]


def test_a_stage_moves_its_layer_and_the_mirror_alone_and_the_last_one_all() -> None:
    model = stacked(layer_dropout=0.2)
    recorder = fit(model, 10)
    for step in range(18):
        layer = step // 6
        expected = {f"autoencoder.encoder.{layer}", f"autoencoder.decoder.{2 - layer}"}
        assert recorder.changed(step) == expected, step
    assert all(recorder.changed(step) == ALL_LAYERS for step in range(18, 30))
    assert [record["stage"] for record in model.history] == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_the_learning_rate_falls_to_zero_within_each_stage() -> None:
    rates = fit(stacked(), 10).rates
    for stage in range(3):
        found = [rates[step][stage] for step in range(6 * stage, 6 * stage + 6)]
        np.testing.assert_allclose(found, 0.01 * np.array(SIX), rtol=1e-6)
    np.testing.assert_allclose([rate[3] for rate in rates[18:]], 0.01 * np.array(TWELVE), rtol=1e-9)


def test_without_layer_epochs_all_layers_are_trained_from_the_first_step() -> None:
    model = stacked(layer_epochs=0, layer_dropout=0.5)
    recorder = fit(model, 4)
    assert all(recorder.changed(step) == ALL_LAYERS for step in range(12))
    np.testing.assert_allclose([rate[3] for rate in recorder.rates], 0.01 * np.array(TWELVE), rtol=1e-9)
    assert {record["stage"] for record in model.history} == {3}


def cross_entropy(logits: np.ndarray, pixels: np.ndarray) -> float:
    grey = special.expit(logits)
    return -float((special.xlogy(pixels, grey) + special.xlogy(1 - pixels, 1 - grey)).sum(1).mean())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_restores_the_clean_activations_below_it_from_dropped_ones(layer: int, dropout: float) -> None:
    model = stacked(layer_dropout=dropout)
    p = parameters_of(model.autoencoder)
    model.steps_taken, model.generator = layer * 6, generator()
    images = model.images[:4].float() / 255
    clean = images.double().numpy()
    for below in range(layer):
        clean = np.maximum(clean @ p[f"encoder.{below}.weight"].T + p[f"encoder.{below}.bias"], 0)
    dropped = Corruption(dropout=dropout).drop(torch.tensor(clean, dtype=torch.float32), generator()).double().numpy()
    assert ((clean > 0) & (dropped == 0)).any() == (dropout > 0)
    hidden = dropped @ p[f"encoder.{layer}.weight"].T + p[f"encoder.{layer}.bias"]
    hidden = hidden if layer == 2 else np.maximum(hidden, 0)
    output = hidden @ p[f"decoder.{2 - layer}.weight"].T + p[f"decoder.{2 - layer}.bias"]
    squares = ((np.maximum(output, 0) - clean) ** 2).sum(1).mean()
    expected = cross_entropy(output, clean) if layer == 0 else squares
    loss, terms = model.step_loss(images, torch.arange(4))
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert terms.tolist() == [loss.item()]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_last_stage_sees_images_with_their_own_corruption_and_restores_the_clean_ones(dropout: float) -> None:
    """The dropout of the layers has ended."""
    model = stacked(layer_dropout=0.5, corruption=Corruption(dropout=dropout))
    p = parameters_of(model.autoencoder)
    model.steps_taken, model.generator = 18, generator()
    images = model.images[:4].float() / 255
    values = Corruption(dropout=dropout).drop(images, generator()).double().numpy()
    for half in ("encoder", "decoder"):
        for layer in range(3):
            values = values @ p[f"{half}.{layer}.weight"].T + p[f"{half}.{layer}.bias"]
            values = values if layer == 2 else np.maximum(values, 0)
    loss, _ = model.step_loss(images, torch.arange(4))
    assert loss.item() == pytest.approx(cross_entropy(values, images.double().numpy()), rel=1e-4)


# The VaDE.

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
