"""Pretraining, made once per data, seed and settings, and shared by the priors."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from experiments.clustering.autoencoder_training import AutoencoderTraining
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits, index_chunks
from experiments.clustering.digit_training import DigitTraining
from experiments.clustering.embedding_mixture import EmbeddingMixture, component_moments
from experiments.clustering.guided_training import GuidedTraining
from experiments.clustering.keras_weights import load_autoencoder_weights, original_weights
from experiments.clustering.manifold import Manifold
from experiments.clustering.networks import Autoencoder
from experiments.clustering.priors import UniformPrior
from experiments.clustering.vade import VaDE
from experiments.common.checks import require_integer, require_number
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.common.store import readable_checkpoint, write_atomically

log = logging.getLogger("experiments")
METHODS = ("stacked_denoising", "original", "file")
PIXELS, ORIGINAL_WIDTHS = 784, (784, 500, 500, 2000, 10)
FORMAT = 1  # raise it when the code changes what the same settings give
# Streams of the run's seed, apart from those of the experiment.
INITIAL_STREAM, ORDER_STREAM, NOISE_STREAM, MIXTURE_STREAM, MANIFOLD_STREAM, GUIDED_STREAM = range(100, 106)
STEPS_PER_CHUNK = 50


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


class Pretraining:
    """How the VaDE's start is made: an autoencoder, clusters of its embedding, and, with the manifold, guided epochs.

    No label is used.

    Args:
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

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        method: str,
        weights: str | None = None,
        widths: Sequence[int],
        layer_epochs: int,
        finetune_epochs: int,
        learning_rate: float,
        batch_size: int,
        layer_dropout: float,
        corruption: Corruption,
        manifold: Manifold | None,
        mixture: EmbeddingMixture,
        guided_epochs: int,
        guidance_weight: float,
        minimum_variance: float,
        initial_variance: float,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"pretraining.method must be one of {', '.join(METHODS)}, got {method!r}")
        lowest = {"layer_epochs": 0, "finetune_epochs": 1, "batch_size": 1, "guided_epochs": 0}
        given = locals()
        for name, low in lowest.items():
            require_integer(f"pretraining.{name}", given[name], low)
        for name in ("learning_rate", "minimum_variance", "initial_variance"):
            require_number(f"pretraining.{name}", given[name], above=True)
        require_number("pretraining.guidance_weight", guidance_weight)
        if manifold is not None and not isinstance(manifold, Manifold):
            raise ValueError(f"pretraining.manifold must be a section or null, got {manifold!r}")
        Corruption(dropout=layer_dropout)  # refuses what isn't a share
        if len(widths) < 2 or widths[0] != PIXELS or min(widths) < 2:
            raise ValueError(
                f"pretraining.widths must go from {PIXELS} pixels to at least 2 dimensions, got {list(widths)}"
            )
        if (method == "file") != (weights is not None):
            raise ValueError("pretraining.weights names a file for the method `file`, and is null for the others")
        if method == "original" and tuple(widths) != ORIGINAL_WIDTHS:
            raise ValueError(
                f"pretraining.method original needs the widths {list(ORIGINAL_WIDTHS)}, got {list(widths)}"
            )
        self.method = method
        self.weights = weights
        self.widths = tuple(widths)
        self.layer_epochs = layer_epochs
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.layer_dropout = layer_dropout
        self.corruption = corruption
        self.manifold = manifold
        self.mixture = mixture
        self.guided_epochs = guided_epochs
        self.guidance_weight = guidance_weight
        self.minimum_variance = minimum_variance
        self.initial_variance = initial_variance

    def run(self, context: RunContext, splits: Splits, num_clusters: int) -> Pretrained:
        """Returns the cached result or makes it; a second process that wants the same waits for the first.

        Raises:
            ExperimentError: the cache can't be written or read, the original weights are missing or wrong, the loss
                is not finite.
        """
        autoencoder_key = self._key(context, splits, autoencoder_only=True)
        key = self._key(context, splits, num_clusters=num_clusters)
        folder = context.cache / "pretraining"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / f"{autoencoder_key}.lock"):
                path = folder / f"{autoencoder_key}.pt"
                if not path.exists():
                    _save(self._autoencoder(context, splits, folder / autoencoder_key), path)
                autoencoder = _load(path)
            with _alone(folder / f"{key}.lock"):
                path = folder / f"{key}.pt"
                if not path.exists():
                    _save(self._start(context, splits, num_clusters, autoencoder["weights"], folder / key), path)
                return Pretrained(**_load(path), reconstruction_loss=autoencoder["reconstruction_loss"])
        except OSError as error:
            raise ExperimentError(f"the cache {folder} can't be used: {error.strerror or error}") from None

    def vade(self, context: RunContext, num_clusters: int) -> VaDE:
        """An untrained VaDE with the uniform prior."""
        return VaDE(
            widths=self.widths,
            prior=UniformPrior(num_clusters=num_clusters),
            minimum_variance=self.minimum_variance,
            initial_variance=self.initial_variance,
            generator=context.generator(INITIAL_STREAM),
        )

    def _key(
        self, context: RunContext, splits: Splits, *, autoencoder_only: bool = False, num_clusters: int | None = None
    ) -> str:
        """Hash of what decides the autoencoder, or the whole."""
        settings = dict(vars(self))
        if self.weights is not None:  # its content decides, not its place
            path = Path(self.weights)
            if not path.is_file():
                raise ExperimentError(f"experiment.pretraining.weights: {path} is not there")
            settings["weights"] = hashlib.sha256(path.read_bytes()).hexdigest()
        whole = {"manifold", "mixture", "guided_epochs", "guidance_weight", "minimum_variance", "initial_variance"}
        decisive = {
            "format": FORMAT,
            "digits": splits.fingerprint,
            "seed": context.seed,
            "precision": context.precision,
            "accelerator": context.accelerator,
            "packages": {name: version(name).rsplit(".", 1)[0] for name in ("torch", "scikit-learn", "umap-learn")},
            "clusters": num_clusters,
            **{name: value for name, value in settings.items() if not (autoencoder_only and name in whole)},
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=vars).encode()).hexdigest()[:16]

    def _weights_file(self, context: RunContext) -> Path:
        return original_weights(context.data_directory) if self.weights is None else Path(self.weights)

    def _autoencoder(self, context: RunContext, splits: Splits, folder: Path) -> dict[str, object]:
        loss = math.nan
        autoencoder = Autoencoder(self.widths, context.generator(INITIAL_STREAM))
        if self.method != "stacked_denoising":
            pairs = load_autoencoder_weights(self._weights_file(context), self.widths)
            with torch.no_grad():
                for layer, (weight, bias) in zip([*autoencoder.encoder, *autoencoder.decoder], pairs, strict=True):
                    layer.weight.copy_(weight)
                    layer.bias.copy_(bias)
        else:
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
        return {"weights": autoencoder.cpu().state_dict(), "reconstruction_loss": loss}

    def _start(
        self, context: RunContext, splits: Splits, num_clusters: int, weights: dict[str, Tensor], folder: Path
    ) -> dict[str, object]:
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
        if self.manifold is None:
            means, variances = mixture.means, mixture.variances
        else:
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
    """Trains, or goes on from the checkpoint in ``folder``, which is removed in the end."""
    checkpoint = ModelCheckpoint(
        folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False, every_n_epochs=2
    )
    trainer = context.trainer(max_epochs=epochs, callbacks=[checkpoint], logger=False)
    log.info("  pretraining, %s: %d epochs of %d steps", name, epochs, training.steps_per_epoch)
    chunks = index_chunks(
        len(training.images), training.batch_size, STEPS_PER_CHUNK, context.generator(ORDER_STREAM).initial_seed()
    )
    trainer.fit(training, chunks, ckpt_path=readable_checkpoint(folder / "last.ckpt"), weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    shutil.rmtree(folder, ignore_errors=True)  # there is none after fewer epochs than between two checkpoints


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes that want the same pretraining waiting."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("  another process makes this pretraining; waiting for it (%s)", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _save(content: dict[str, object], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for a damaged file
        raise ExperimentError(f"{path} can't be read ({str(error).splitlines()[0]}); delete it") from None
