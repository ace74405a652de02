"""Pretraining, made once per data, seed and settings, and shared by the priors."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from experiments.clustering.data import Splits
from experiments.clustering.networks import Autoencoder, grey
from experiments.clustering.pretraining.autoencoder import AutoencoderTraining
from experiments.clustering.pretraining.cache import cached, key_of
from experiments.clustering.pretraining.keras_weights import load_autoencoder_weights, original_weights
from experiments.clustering.pretraining.starts import Start
from experiments.clustering.priors import UniformPrior
from experiments.clustering.vade import VaDE
from experiments.context import RunContext
from experiments.row_training import RowTraining
from experiments.settings import ExperimentError, NonNegativeInt, Positive, PositiveInt, settings

log = logging.getLogger("experiments")
PIXELS, ORIGINAL_WIDTHS = 784, [784, 500, 500, 2000, 10]
FORMAT = 4  # raise it when the code changes what the same settings give
PACKAGES = ("torch", "numpy", "scikit-learn", "umap-learn", "pynndescent")  # which the numbers depend on
AFTER_AUTOENCODER = ("start", "minimum_variance", "initial_variance")
# Streams of the run's seed, apart from those of the experiment and of the start.
INITIAL_STREAM, ORDER_STREAM, NOISE_STREAM = range(100, 103)


@dataclass(frozen=True)
class Pretrained:
    """What the VaDE starts from.

    Attributes:
        state: of a :class:`VaDE`, its prior left out.
        assignments: cluster of every training digit that the pretraining found, [digits].
    """

    state: dict[str, Tensor]
    assignments: Tensor


@settings
class Pretraining:
    """How the VaDE's start is made.

    Attributes:
        method: of the autoencoder: ``stacked_denoising``; ``original``: the weights that the authors of VaDE published
            and the paper used.
        widths: of the encoder, from the pixels to the embedding.
        layer_epochs: epochs per layer before all are trained together; 0 for none.
        finetune_epochs: epochs of all layers together.
        learning_rate: of Adam at the start of every stage.
        batch_size: digits per step.
        layer_dropout: share of the values that the layerwise stages set to zero.
        start: how the clusters are found in its embedding; each recipe has its own.
        minimum_variance: of the components, from here on.
        initial_variance: of q(z | x) before the VaDE is trained.
    """

    method: Literal["stacked_denoising", "original"]
    widths: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=2)]
    layer_epochs: NonNegativeInt
    finetune_epochs: PositiveInt
    learning_rate: Positive
    batch_size: PositiveInt
    layer_dropout: Annotated[float, Field(ge=0, lt=1)]
    start: Start
    minimum_variance: Positive
    initial_variance: Positive

    def __post_init__(self) -> None:
        if self.widths[0] != PIXELS:
            raise ValueError(f"widths must start with the {PIXELS} pixels, got {self.widths}")
        if self.method == "original" and self.widths != ORIGINAL_WIDTHS:
            raise ValueError(f"method original needs the widths {ORIGINAL_WIDTHS}, got {self.widths}")

    @property
    def idle_settings(self) -> set[str]:
        """Settings of this section that nothing reads beside the others."""
        idle = {f"start.{name}" for name in self.start.idle_settings}
        if self.method != "stacked_denoising":
            idle |= {"layer_epochs", "finetune_epochs", "layer_dropout"}
            if not getattr(self.start, "guided_epochs", 0):
                idle |= {"learning_rate", "batch_size"}
        elif not self.layer_epochs:
            idle |= {"layer_dropout"}
        return idle

    def run(self, context: RunContext, splits: Splits, num_clusters: int) -> Pretrained:
        """Returns the cached result or makes it.

        Raises:
            ExperimentError: the cache can't be used, the weights are missing or wrong, the loss is not finite.
        """
        folder, decisive = context.cache / "pretraining", self._decisive(context, splits)
        own = {name: value for name, value in decisive.items() if name not in AFTER_AUTOENCODER}
        key, whole_key = key_of(own), key_of({**decisive, "clusters": num_clusters})
        weights = cached(folder, key, lambda: self._autoencoder(context, splits, folder / key))
        start = cached(
            folder, whole_key, lambda: self._start(context, splits, num_clusters, weights, folder / whole_key)
        )
        return Pretrained(**start)

    def vade(self, context: RunContext, num_clusters: int) -> VaDE:
        """An untrained VaDE with the uniform prior."""
        return VaDE(
            widths=self.widths,
            prior=UniformPrior(num_clusters=num_clusters),
            minimum_variance=self.minimum_variance,
            initial_variance=self.initial_variance,
            generator=context.generator(INITIAL_STREAM),
        )

    def _decisive(self, context: RunContext, splits: Splits) -> dict[str, Any]:
        """What decides the numbers."""
        return asdict(self) | {
            "format": FORMAT,
            "start": {"kind": type(self.start).__name__, **asdict(self.start)},
            "digits": splits.fingerprint,
            "seed": context.seed,
            "trainer": context.numerics,
            "packages": {name: version(name).rsplit(".", 1)[0] for name in PACKAGES},
        }

    def _autoencoder(self, context: RunContext, splits: Splits, folder: Path) -> dict[str, Tensor]:
        autoencoder = Autoencoder(self.widths, context.generator(INITIAL_STREAM))
        if self.method == "stacked_denoising":
            noise_seed = context.generator(NOISE_STREAM).initial_seed()
            training = AutoencoderTraining(autoencoder, splits.train_images, self, noise_seed)
            _fit(context, training, len(training.stage_of_epoch), folder, "autoencoder")
        else:
            pairs = load_autoencoder_weights(original_weights(context.data_directory), self.widths)
            with torch.no_grad():
                for layer, (weight, bias) in zip([*autoencoder.encoder, *autoencoder.decoder], pairs, strict=True):
                    layer.weight.copy_(weight)
                    layer.bias.copy_(bias)
        return autoencoder.cpu().state_dict()

    def _start(
        self, context: RunContext, splits: Splits, num_clusters: int, weights: dict[str, Tensor], folder: Path
    ) -> dict[str, Any]:
        vade = self.vade(context, num_clusters)
        vade.autoencoder.load_state_dict(weights)
        embedding = embed(vade.autoencoder, splits.train_images)
        if not embedding.isfinite().all():
            raise ExperimentError("pretraining: the embedding isn't finite; lower experiment.pretraining.learning_rate")
        log.info("  pretraining: clusters of %d digits", len(embedding))
        assignments = self.start.clusters(context, vade, embedding, splits)
        guided = self.start.guided(context, vade, splits.train_images, assignments, self)
        if guided is not None:
            _fit(context, guided, guided.epochs, folder, "guided")
        return {"state": vade.cpu().state_dict(), "assignments": assignments}


@torch.no_grad()
def embed(autoencoder: Autoencoder, images: Tensor, part_size: int = 5000) -> Tensor:
    """Embedding of uint8 images [digits, pixels], float32 [digits, latent]."""
    return torch.cat([autoencoder.encode(grey(part)) for part in images.split(part_size)])


def _fit(context: RunContext, training: RowTraining, epochs: int, folder: Path, name: str) -> None:
    """Trains without a trace in the logs; the checkpoint is removed in the end."""
    log.info("  pretraining, %s: %d epochs of %d steps", name, epochs, training.steps_per_epoch)
    chunks = training.chunks(context.generator(ORDER_STREAM).initial_seed())
    if context.afresh:
        shutil.rmtree(folder, ignore_errors=True)
    context.fit(training, chunks, max_epochs=epochs, folder=folder, checkpoint_every=2, logger=False)
    shutil.rmtree(folder, ignore_errors=True)  # there is none after fewer epochs than between two checkpoints
