"""Training of the stacked denoising autoencoder: layer by layer, then end to end (Vincent et al. 2010)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from experiments.clustering.digit_training import DigitTraining
from experiments.clustering.networks import Autoencoder


def drop(values: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Dropout with a generator of its own, for values of any shape."""
    if rate == 0:
        return values
    kept = torch.empty_like(values, dtype=torch.float32).uniform_(generator=generator) >= rate
    return values * kept / (1 - rate)


class AutoencoderTraining(DigitTraining):
    """Stage l < L trains layer l and its mirror on the clean activations below it; stage L trains all layers.

    The stages follow each other over the epochs. Within each, the learning rate falls to zero by a half cosine.

    Args:
        autoencoder: what is trained.
        images: [digits, pixels] uint8.
        batch_size: digits per step.
        layer_epochs: epochs of each layer; 0 leaves the layerwise stages out.
        finetune_epochs: epochs of all layers together.
        learning_rate: of Adam at the start of each stage.
        layer_dropout: share of the values that a layer's stage sets to zero, and undoes.
        noise_seed: seed of the dropout.
    """

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        images: Tensor,
        batch_size: int,
        layer_epochs: int,
        finetune_epochs: int,
        learning_rate: float,
        layer_dropout: float,
        noise_seed: int,
    ) -> None:
        super().__init__(images=images, batch_size=batch_size, noise_seed=noise_seed, term_names=["loss"])
        self.autoencoder = autoencoder
        self.layer_dropout = layer_dropout
        self.learning_rate = learning_rate
        self.num_layers = len(autoencoder.encoder)
        lengths = [layer_epochs] * self.num_layers + [finetune_epochs]
        self.stage_of_epoch = [stage for stage, length in enumerate(lengths) for _ in range(length)]
        self.stage_lengths = lengths

    @property
    def stage(self) -> int:
        """Index of the layer in training, or the number of layers for the last stage."""
        return self.stage_of_epoch[self.steps_taken // self.steps_per_epoch]

    def step_loss(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        stage = self.stage
        loss = self._all_layers(images) if stage == self.num_layers else self._one_layer(images, stage)
        return loss, loss.unsqueeze(0)

    def _all_layers(self, images: Tensor) -> Tensor:
        logits = self.autoencoder.decode(self.autoencoder.encode(images))
        return binary_cross_entropy_with_logits(logits.float(), images, reduction="sum") / len(images)

    def _one_layer(self, images: Tensor, layer: int) -> Tensor:
        encoder = self.autoencoder.encoder
        with torch.no_grad():
            values = images
            for below in encoder[:layer]:
                values = below(values).relu()
        hidden = encoder[layer](drop(values, self.layer_dropout, self.generator))
        if layer < self.num_layers - 1:  # the embedding is linear
            hidden = hidden.relu()
        reconstruction = self.autoencoder.decoder[self.num_layers - 1 - layer](hidden).float()
        if layer == 0:
            return binary_cross_entropy_with_logits(reconstruction, values, reduction="sum") / len(images)
        return mse_loss(reconstruction.relu(), values.float(), reduction="sum") / len(images)

    def step_optimizer(self) -> tuple[int, float]:
        stage = self.stage
        first = sum(self.stage_lengths[:stage]) * self.steps_per_epoch
        progress = (self.steps_taken - first) / (self.stage_lengths[stage] * self.steps_per_epoch)
        return stage, self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def epoch_record(self) -> dict[str, float]:
        return {"stage": self.stage_of_epoch[self.current_epoch]}

    def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        encoder, decoder = self.autoencoder.encoder, self.autoencoder.decoder
        pairs = zip(encoder, reversed(decoder))
        stages: list[Iterable[nn.Parameter]] = [[*one.parameters(), *other.parameters()] for one, other in pairs]
        return [torch.optim.Adam(stage, fused=True) for stage in [*stages, self.autoencoder.parameters()]]
