"""Pretraining, made once per data, seed and settings, and shared by the priors."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from experiments.clustering.autoencoder_training import AutoencoderTraining
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits, index_chunks
from experiments.clustering.embedding_mixture import COVARIANCES, FittedMixture, fit_mixture
from experiments.clustering.keras_weights import load_autoencoder_weights, original_weights
from experiments.clustering.networks import Autoencoder
from experiments.clustering.progress import RateEstimate
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.common.store import write_atomically

log = logging.getLogger("experiments")
METHODS = ("stacked_denoising", "original")
FORMAT = 1  # raise it when the code changes what the same settings give
INITIAL_STREAM, ORDER_STREAM, NOISE_STREAM, MIXTURE_STREAM = 100, 101, 102, 103
STEPS_PER_CHUNK = 50


@dataclass(frozen=True)
class Pretrained:
    """What the VAE starts from.

    Attributes:
        widths: of the encoder.
        weights: state of the :class:`Autoencoder`.
        mixture: the mixture on the embedding of the training digits.
        key: of the cache.
    """

    widths: tuple[int, ...]
    weights: dict[str, Tensor]
    mixture: FittedMixture
    key: str

    def autoencoder(self) -> Autoencoder:
        """The pretrained autoencoder."""
        autoencoder = Autoencoder(self.widths, torch.Generator())
        autoencoder.load_state_dict(self.weights)
        return autoencoder


class Pretraining:
    """How the autoencoder and the mixture on its embedding are made; no label is used.

    Args:
        method: ``stacked_denoising``, or ``original``: the weights that the authors of VaDE published (and the paper
            used), for the widths 784, 500, 500, 2000, 10.
        widths: of the encoder, from the pixels to the embedding.
        layer_epochs: epochs per layer before all are trained together; 0 for none.
        finetune_epochs: epochs of all layers together.
        learning_rate: of Adam at the start of every stage; it falls to zero by a half cosine.
        batch_size: digits per step.
        corruption: what the denoising autoencoder undoes.
        mixture_covariance: ``diag`` or ``full``; the VAE takes the diagonal.
        mixture_starts: fits of the mixture, of which the likelihood chooses.
        mixture_digits: digits that the mixture is fitted to, at most.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        method: str,
        widths: list[int],
        layer_epochs: int,
        finetune_epochs: int,
        learning_rate: float,
        batch_size: int,
        corruption: Corruption,
        mixture_covariance: str,
        mixture_starts: int,
        mixture_digits: int,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"pretraining.method must be one of {', '.join(METHODS)}, got {method!r}")
        if mixture_covariance not in COVARIANCES:
            allowed = ", ".join(COVARIANCES)
            raise ValueError(f"pretraining.mixture_covariance must be one of {allowed}, got {mixture_covariance!r}")
        lowest = {"layer_epochs": 0, "finetune_epochs": 1, "batch_size": 1, "mixture_starts": 1, "mixture_digits": 1}
        values = locals()
        for name, low in lowest.items():
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"pretraining.{name} must be an integer of at least {low}, got {value!r}")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"pretraining.learning_rate must be positive and finite, got {learning_rate}")
        self.method = method
        self.widths = tuple(widths)
        self.layer_epochs = layer_epochs
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.corruption = corruption
        self.mixture_covariance = mixture_covariance
        self.mixture_starts = mixture_starts
        self.mixture_digits = mixture_digits
        Autoencoder(self.widths, torch.Generator())  # bad widths are reported before anything is read or written

    def key(self, splits: Splits, seed: int, num_clusters: int, precision: str) -> str:
        """Hash of what decides the result: the digits, the seed and the settings."""
        settings = {name: value for name, value in vars(self).items() if name != "corruption"}
        decisive = {
            "format": FORMAT,
            "digits": splits.fingerprint,
            "seed": seed,
            "clusters": num_clusters,
            "precision": precision,
            "corruption": vars(self.corruption),
            **settings,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, context: RunContext, splits: Splits, num_clusters: int) -> Pretrained:
        """Returns the cached result or makes it; a second process that wants the same waits for the first.

        Raises:
            ExperimentError: the cache can't be written or read, the original weights are missing or wrong, the loss
                is not finite.
        """
        key = self.key(splits, context.seed, num_clusters, str(context.precision))
        folder = context.cache / "pretraining"
        path = folder / f"{key}.pt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder / f"{key}.lock"):
                if not path.exists():
                    self._make(context, splits, num_clusters, path)
                stored = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise ExperimentError(f"the cache {folder} can't be used: {error.strerror or error}") from None
        except (RuntimeError, EOFError, ValueError) as error:
            raise ExperimentError(f"{path} can't be read ({str(error).splitlines()[0]}); delete it") from None
        return Pretrained(self.widths, stored["weights"], FittedMixture(**stored["mixture"]), key)

    def _make(self, context: RunContext, splits: Splits, num_clusters: int, path: Path) -> None:
        autoencoder = Autoencoder(self.widths, context.generator(INITIAL_STREAM))
        history: list[dict[str, float]] = []
        if self.method == "original":
            self._load_original(autoencoder, context.data_directory)
        else:
            history = self._train(autoencoder, context, splits.train_images, path.with_suffix(""))
        embedding = embed(autoencoder, splits.train_images)
        if not embedding.isfinite().all():
            raise ExperimentError("pretraining: the embedding is not finite; lower experiment.pretraining.learning_rate")
        mixture = fit_mixture(
            embedding,
            num_clusters=num_clusters,
            starts=self.mixture_starts,
            covariance=self.mixture_covariance,
            max_digits=self.mixture_digits,
            seed=context.generator(MIXTURE_STREAM).initial_seed(),
        )
        buffer = io.BytesIO()
        content = {"weights": autoencoder.state_dict(), "mixture": mixture._asdict(), "history": history}
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())
        for checkpoint in path.with_suffix("").glob("*.ckpt"):
            checkpoint.unlink()

    def _train(
        self, autoencoder: Autoencoder, context: RunContext, images: Tensor, folder: Path
    ) -> list[dict[str, float]]:
        training = AutoencoderTraining(
            autoencoder=autoencoder,
            images=images,
            batch_size=self.batch_size,
            layer_epochs=self.layer_epochs,
            finetune_epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            corruption=self.corruption,
            noise_seed=context.generator(NOISE_STREAM).initial_seed(),
        )
        epochs = len(training.stage_of_epoch)
        checkpoint = ModelCheckpoint(
            folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False, every_n_epochs=5
        )
        trainer = context.trainer(max_epochs=epochs, callbacks=[checkpoint, RateEstimate()], logger=False)
        order = context.generator(ORDER_STREAM).initial_seed()
        last = folder / "last.ckpt"
        log.info("  pretraining: %d epochs of %d steps (%s)", epochs, training.steps_per_epoch, folder)
        chunks = index_chunks(len(images), self.batch_size, STEPS_PER_CHUNK, order)
        trainer.fit(training, chunks, ckpt_path=last if last.exists() else None, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        autoencoder.cpu()
        return training.history

    def _load_original(self, autoencoder: Autoencoder, directory: Path) -> None:
        path = original_weights(directory)
        pairs = load_autoencoder_weights(path, self.widths)
        layers = [*autoencoder.encoder, *autoencoder.decoder]
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, pairs, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)


@torch.no_grad()
def embed(autoencoder: Autoencoder, images: Tensor, batch_size: int = 5000) -> Tensor:
    """Embedding of uint8 images [digits, pixels], float32 [digits, latent]."""
    return torch.cat([autoencoder.encode(part.float() / 255) for part in images.split(batch_size)])
