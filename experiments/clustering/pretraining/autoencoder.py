"""Training of the stacked denoising autoencoder: layer by layer, then end to end (Vincent et al. 2010)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from experiments.clustering.networks import Autoencoder, grey
from experiments.row_training import RowTraining

if TYPE_CHECKING:
    from experiments.clustering.pretraining.pretraining import Pretraining


def drop(values: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Dropout with a generator of its own, for values of any shape."""
    if rate == 0:
        return values
    kept = torch.empty_like(values, dtype=torch.float32).uniform_(generator=generator) >= rate
    return values * kept / (1 - rate)


class AutoencoderTraining(RowTraining):
    """Stage l < L trains layer l and its mirror on the clean activations below it; stage L trains all layers.

    The stages follow each other over the epochs. Within each, the learning rate falls to zero by a half cosine.

    Args:
        autoencoder: what is trained.
        images: [digits, pixels] uint8.
        settings: of the pretraining.
        noise_seed: seed of the dropout.
    """

    def __init__(self, autoencoder: Autoencoder, images: Tensor, settings: Pretraining, noise_seed: int) -> None:
        super().__init__(rows=images, batch_size=settings.batch_size, noise_seed=noise_seed, term_names=["loss"])
        self.autoencoder = autoencoder
        self.settings = settings
        self.num_layers = len(autoencoder.encoder)
        self.stage_lengths = [settings.layer_epochs] * self.num_layers + [settings.finetune_epochs]
        self.stage_of_epoch = [stage for stage, length in enumerate(self.stage_lengths) for _ in range(length)]

    @property
    def stage(self) -> int:
        """Index of the layer in training, or the number of layers for the last stage."""
        return self.stage_of_epoch[self.steps_taken // self.steps_per_epoch]

    def step_loss(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, stage = grey(rows), self.stage
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
        hidden = encoder[layer](drop(values, self.settings.layer_dropout, self.generator))
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
        return stage, self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def epoch_record(self) -> dict[str, float]:
        return {"stage": self.stage_of_epoch[self.current_epoch]}

    def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        encoder, decoder = self.autoencoder.encoder, self.autoencoder.decoder
        pairs = zip(encoder, reversed(decoder))
        stages: list[Iterable[nn.Parameter]] = [[*one.parameters(), *other.parameters()] for one, other in pairs]
        return [torch.optim.Adam(stage, fused=True) for stage in [*stages, self.autoencoder.parameters()]]
