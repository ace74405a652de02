"""Pretraining, made once per data, seed and settings, and shared by the priors."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from experiments.clustering.data import Splits
from experiments.clustering.digit_training import DigitTraining, fit
from experiments.clustering.networks import Autoencoder
from experiments.clustering.pretraining.autoencoder import AutoencoderTraining
from experiments.clustering.pretraining.cache import cached, key_of
from experiments.clustering.pretraining.corruption import Corruption, DropoutRate
from experiments.clustering.pretraining.guided import GuidedTraining
from experiments.clustering.pretraining.keras_weights import load_autoencoder_weights, original_weights
from experiments.clustering.pretraining.manifold import Manifold
from experiments.clustering.pretraining.mixture import EmbeddingMixture, component_moments
from experiments.clustering.priors import UniformPrior
from experiments.clustering.vade import VaDE
from experiments.context import RunContext
from experiments.settings import ExperimentError, NonNegative, NonNegativeInt, Positive, PositiveInt, settings

log = logging.getLogger("experiments")
PIXELS, ORIGINAL_WIDTHS = 784, [784, 500, 500, 2000, 10]
FORMAT = 2  # raise it when the code changes what the same settings give
PACKAGES = ("torch", "scikit-learn", "umap-learn")  # which the numbers depend on
AFTER_AUTOENCODER = ("manifold", "mixture", "guided_epochs", "guidance_weight", "minimum_variance", "initial_variance")
# Streams of the run's seed, apart from those of the experiment.
INITIAL_STREAM, ORDER_STREAM, NOISE_STREAM, MIXTURE_STREAM, MANIFOLD_STREAM, GUIDED_STREAM = range(100, 106)


@dataclass(frozen=True)
class Pretrained:
    """What the VaDE starts from.

    Attributes:
        state: of a :class:`VaDE`, its prior left out.
        probabilities: of the clusters, [clusters].
        assignments: cluster of every training digit that the pretraining found, [digits].
        log_likelihood: of the mixture that found them, the mean per digit, where it was fitted.
        reconstruction_loss: of the autoencoder's last epoch, nats per digit; nan for the published weights.
    """

    state: dict[str, Tensor]
    probabilities: Tensor
    assignments: Tensor
    log_likelihood: float
    reconstruction_loss: float


@settings
class Pretraining:
    """How the VaDE's start is made.

    Attributes:
        method: of the autoencoder: ``stacked_denoising``; ``original``: the weights that the authors of VaDE published
            and the paper used; ``file``: other weights of that format.
        weights: Keras HDF5 file of an autoencoder, for the method ``file``.
        widths: of the encoder, from the pixels to the embedding.
        layer_epochs: epochs per layer before all are trained together; 0 for none.
        finetune_epochs: epochs of all layers together.
        learning_rate: of Adam at the start of every stage.
        batch_size: digits per step.
        layer_dropout: share of the values that the layerwise stages set to zero.
        corruption: of the images in the epochs of all layers together; none, as usual, by its defaults.
        manifold: where the clusters are looked for; None for the embedding itself, as the paper does.
        mixture: of Gaussians, fitted there; chosen among its starts by likelihood.
        guided_epochs: epochs of the VaDE with the clusters fixed, before the prior's own training; 0 for none, as the
            paper does.
        guidance_weight: of the term of the guided epochs that pulls the clusters apart.
        minimum_variance: of the components, from here on.
        initial_variance: of q(z | x) before them.
    """

    method: Literal["stacked_denoising", "original", "file"]
    weights: str | None
    widths: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=2)]
    layer_epochs: NonNegativeInt
    finetune_epochs: PositiveInt
    learning_rate: Positive
    batch_size: PositiveInt
    layer_dropout: DropoutRate
    corruption: Corruption
    manifold: Manifold | None
    mixture: EmbeddingMixture
    guided_epochs: NonNegativeInt
    guidance_weight: NonNegative
    minimum_variance: Positive
    initial_variance: Positive

    def __post_init__(self) -> None:
        if self.widths[0] != PIXELS:
            raise ValueError(f"widths must start with the {PIXELS} pixels, got {self.widths}")
        if (self.method == "file") != (self.weights is not None):
            raise ValueError("weights names a file for the method `file`, and is null for the others")
        if self.method == "original" and self.widths != ORIGINAL_WIDTHS:
            raise ValueError(f"method original needs the widths {ORIGINAL_WIDTHS}, got {self.widths}")

    def run(self, context: RunContext, splits: Splits, num_clusters: int) -> Pretrained:
        """Returns the cached result or makes it.

        Raises:
            ExperimentError: the cache can't be used, the weights are missing or wrong, the loss is not finite.
        """
        folder, decisive = context.cache / "pretraining", self._decisive(context, splits)
        own = {name: value for name, value in decisive.items() if name not in AFTER_AUTOENCODER}
        key, whole_key = key_of(own), key_of({**decisive, "clusters": num_clusters})
        autoencoder = cached(folder, key, lambda: self._autoencoder(context, splits, folder / key))
        start = cached(
            folder,
            whole_key,
            lambda: self._start(context, splits, num_clusters, autoencoder["weights"], folder / whole_key),
        )
        return Pretrained(**start, reconstruction_loss=autoencoder["reconstruction_loss"])

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
            "digits": splits.fingerprint,
            "seed": context.seed,
            "precision": context.precision,
            "accelerator": context.accelerator,
            "packages": {name: version(name).rsplit(".", 1)[0] for name in PACKAGES},
            "weights": self._digest(),
        }

    def _digest(self) -> str | None:
        """Of the weights file: its content decides, not its place."""
        if self.weights is None:
            return None
        path = Path(self.weights)
        if not path.is_file():
            raise ExperimentError(f"experiment.pretraining.weights: {path} is not there")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _autoencoder(self, context: RunContext, splits: Splits, folder: Path) -> dict[str, Any]:
        autoencoder = Autoencoder(self.widths, context.generator(INITIAL_STREAM))
        loss = math.nan
        if self.method == "stacked_denoising":
            training = AutoencoderTraining(
                autoencoder=autoencoder,
                images=splits.train_images,
                batch_size=self.batch_size,
                layer_epochs=self.layer_epochs,
                finetune_epochs=self.finetune_epochs,
                learning_rate=self.learning_rate,
                layer_dropout=self.layer_dropout,
                corruption=self.corruption,
                noise_seed=context.generator(NOISE_STREAM).initial_seed(),
            )
            _fit(context, training, len(training.stage_of_epoch), folder, "autoencoder")
            loss = training.history[-1]["loss"]
        else:
            path = original_weights(context.data_directory) if self.weights is None else Path(self.weights)
            pairs = load_autoencoder_weights(path, self.widths)
            with torch.no_grad():
                for layer, (weight, bias) in zip([*autoencoder.encoder, *autoencoder.decoder], pairs, strict=True):
                    layer.weight.copy_(weight)
                    layer.bias.copy_(bias)
        return {"weights": autoencoder.cpu().state_dict(), "reconstruction_loss": loss}

    def _start(
        self, context: RunContext, splits: Splits, num_clusters: int, weights: dict[str, Tensor], folder: Path
    ) -> dict[str, Any]:
        vade = self.vade(context, num_clusters)
        vade.autoencoder.load_state_dict(weights)
        embedding = embed(vade.autoencoder, splits.train_images)
        if not embedding.isfinite().all():
            raise ExperimentError("pretraining: the embedding isn't finite; lower experiment.pretraining.learning_rate")
        places = embedding
        if self.manifold is not None:
            log.info("  pretraining: manifold of %d digits", len(embedding))
            places = self.manifold.fit(embedding, context.generator(MANIFOLD_STREAM).initial_seed())
        mixture = self.mixture.fit(places, num_clusters, context.generator(MIXTURE_STREAM).initial_seed())
        means, variances = mixture.means, mixture.variances
        if self.manifold is not None:
            means, variances = component_moments(embedding, mixture.assignments, num_clusters)
        vade.mixture.initialise(means, variances)
        if self.guided_epochs:
            training = GuidedTraining(
                vade=vade,
                images=splits.train_images,
                assignments=mixture.assignments,
                epochs=self.guided_epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight=self.guidance_weight,
                noise_seed=context.generator(GUIDED_STREAM).initial_seed(),
            )
            _fit(context, training, self.guided_epochs, folder, "guided")
        return {
            "state": vade.cpu().state_dict(),
            "probabilities": mixture.probabilities,
            "assignments": mixture.assignments,
            "log_likelihood": mixture.log_likelihood,
        }


@torch.no_grad()
def embed(autoencoder: Autoencoder, images: Tensor, part_size: int = 5000) -> Tensor:
    """Embedding of uint8 images [digits, pixels], float32 [digits, latent]."""
    return torch.cat([autoencoder.encode(part.float() / 255) for part in images.split(part_size)])


def _fit(context: RunContext, training: DigitTraining, epochs: int, folder: Path, name: str) -> None:
    """Trains without a trace in the logs; the checkpoint is removed in the end."""
    log.info("  pretraining, %s: %d epochs of %d steps", name, epochs, training.steps_per_epoch)
    order_seed = context.generator(ORDER_STREAM).initial_seed()
    fit(context, training, epochs, folder, order_seed, checkpoint_every=2, logger=False)
    shutil.rmtree(folder, ignore_errors=True)  # there is none after fewer epochs than between two checkpoints
