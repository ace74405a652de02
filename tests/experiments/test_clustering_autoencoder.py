"""The autoencoder's stages against NumPy: targets, dropout, which layers move, learning rates."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats

from experiments.clustering.networks import Autoencoder
from experiments.clustering.pretraining.autoencoder import AutoencoderTraining, drop
from tests.experiments.clustering_fits import BATCH, WIDTHS, byte_images, fit, generator
from tests.experiments.clustering_reference import parameters_of


def stacked(layer_epochs: int = 2, finetune_epochs: int = 4, layer_dropout: float = 0.0) -> AutoencoderTraining:
    source = generator(1)
    autoencoder = Autoencoder(WIDTHS, source)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.3 * torch.empty_like(parameter).normal_(generator=source))
    settings: Any = SimpleNamespace(
        batch_size=BATCH,
        layer_epochs=layer_epochs,
        finetune_epochs=finetune_epochs,
        learning_rate=0.01,
        layer_dropout=layer_dropout,
    )
    return AutoencoderTraining(autoencoder, byte_images(), settings, noise_seed=5)


ALL_LAYERS = {f"autoencoder.{half}.{layer}" for half in ("encoder", "decoder") for layer in range(3)}
# Half a cosine in twelve steps.
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
    rows = model.rows[:4]
    clean = rows.double().numpy() / 255
    for below in range(layer):
        clean = np.maximum(clean @ p[f"encoder.{below}.weight"].T + p[f"encoder.{below}.bias"], 0)
    dropped = drop(torch.tensor(clean, dtype=torch.float32), dropout, generator()).double().numpy()
    assert ((clean > 0) & (dropped == 0)).any() == (dropout > 0)
    hidden = dropped @ p[f"encoder.{layer}.weight"].T + p[f"encoder.{layer}.bias"]
    hidden = hidden if layer == 2 else np.maximum(hidden, 0)
    output = hidden @ p[f"decoder.{2 - layer}.weight"].T + p[f"decoder.{2 - layer}.bias"]
    squares = ((np.maximum(output, 0) - clean) ** 2).sum(1).mean()
    expected = cross_entropy(output, clean) if layer == 0 else squares
    loss, terms = model.step_loss(rows, torch.arange(4))
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert terms.tolist() == [loss.item()]


def test_the_last_stage_sees_and_restores_clean_images() -> None:
    """The dropout of the layers has ended."""
    model = stacked(layer_dropout=0.5)
    p = parameters_of(model.autoencoder)
    model.steps_taken, model.generator = 18, generator()
    values = images = model.rows[:4].double().numpy() / 255
    for half in ("encoder", "decoder"):
        for layer in range(3):
            values = values @ p[f"{half}.{layer}.weight"].T + p[f"{half}.{layer}.bias"]
            values = values if layer == 2 else np.maximum(values, 0)
    loss, _ = model.step_loss(model.rows[:4], torch.arange(4))
    assert loss.item() == pytest.approx(cross_entropy(values, images), rel=1e-4)


@pytest.mark.parametrize("dropout", [0.2, 0.75])
def test_dropout_zeroes_the_right_share_and_keeps_the_mean(dropout: float) -> None:
    """The number of zeros in 200,000 values by a binomial test, failure rate 1e-5; finds 0.6 percentage points."""
    values = torch.rand(400, 500, generator=generator(2)) + 0.5
    dropped = drop(values, dropout, generator(3))
    zeros = int((dropped == 0).sum())
    assert stats.binomtest(zeros, values.numel(), dropout).pvalue > 1e-5
    torch.testing.assert_close(dropped[dropped > 0], values[dropped > 0] / (1 - dropout))
    assert drop(values, 0.0, generator(3)) is values
