"""Training of the VaDE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits
from experiments.clustering.digit_training import DigitTraining
from experiments.clustering.scores import score
from experiments.clustering.vade import Terms, VaDE
from experiments.common.checks import require_integer, require_number
from mvhg import ExponentialAnnealing


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the VaDE is trained.

    Attributes:
        max_epochs: passes over the training digits.
        batch_size: digits per step, n.
        learning_rate: of Adam.
        learning_rate_decay: factor on it after every ``decay_epochs`` epochs.
        decay_epochs: see there.
        minimum_learning_rate: it does not fall below.
        adam_epsilon: of Adam.
        initial_temperature: of the Gumbel-softmax.
        final_temperature: reached after ``annealing_share`` of the steps, by an exponential.
        annealing_share: see there, in (0, 1].
        warm_up_epochs: epochs over which the weight of all terms but the reconstruction grows from 0 to 1; 0: at once.
        score_every: epochs between two scores in the history; nothing depends on them.
        compile: compile the bound with ``torch.compile``.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_decay: float
    decay_epochs: int
    minimum_learning_rate: float
    adam_epsilon: float
    initial_temperature: float
    final_temperature: float
    annealing_share: float
    warm_up_epochs: float
    score_every: int
    compile: bool

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "decay_epochs", "score_every"):
            require_integer(f"training.{name}", getattr(self, name), 1)
        for name in ("learning_rate", "adam_epsilon", "initial_temperature", "final_temperature"):
            require_number(f"training.{name}", getattr(self, name), above=True)
        for name in ("learning_rate_decay", "annealing_share"):
            require_number(f"training.{name}", getattr(self, name), above=True, largest=1)
        for name in ("minimum_learning_rate", "warm_up_epochs"):
            require_number(f"training.{name}", getattr(self, name))
        if not isinstance(self.compile, bool):
            raise ValueError(f"training.compile must be true or false, got {self.compile!r}")


class VaDETraining(DigitTraining):
    """Maximises the evidence lower bound.

    Args:
        vade: the model.
        splits: its digits; labels are used for the scores in the history alone.
        settings: see there.
        corruption: of what the encoder sees; the bound is that of the clean images (a denoising VAE, Im et al. 2017).
        noise_seed: seed of everything drawn in training.
    """

    test_images: Tensor

    def __init__(
        self, *, vade: VaDE, splits: Splits, settings: TrainingSettings, corruption: Corruption, noise_seed: int
    ) -> None:
        super().__init__(
            images=splits.train_images,
            batch_size=settings.batch_size,
            noise_seed=noise_seed,
            term_names=["elbo", *Terms._fields],
        )
        self.vade = vade
        self.settings = settings
        self.corruption = corruption
        self.test_labels = splits.test_labels
        self.register_buffer("test_images", splits.test_images, persistent=False)
        annealing_steps = max(1, round(settings.annealing_share * settings.max_epochs * self.steps_per_epoch))
        self.annealing = ExponentialAnnealing(settings.initial_temperature, settings.final_temperature, annealing_steps)
        self.bound = torch.compile(vade.terms) if settings.compile else vade.terms

    def step_loss(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.corruption(images, self.generator)
        noise = self.vade.draw_noise(len(images), self.generator)
        temperature = torch.full((), self.annealing(self.steps_taken), device=self.device)
        terms = self.bound(images, noise, temperature, inputs)
        warm_up_steps = self.settings.warm_up_epochs * self.steps_per_epoch
        weight = min(1.0, (self.steps_taken + 1) / warm_up_steps) if warm_up_steps else 1.0
        return -terms.weighted(weight), torch.stack([terms.elbo, *terms])

    def step_optimizer(self) -> tuple[int, float]:
        return 0, self.learning_rate(self.current_epoch)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        settings = self.settings
        decayed = settings.learning_rate * settings.learning_rate_decay ** (epoch // settings.decay_epochs)
        return max(decayed, min(settings.minimum_learning_rate, settings.learning_rate))

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        log_weights = self.vade.prior.log_weights()
        if log_weights is not None:
            values = log_weights.detach().tolist()
            self._log({f"log_weight/cluster_{cluster}": value for cluster, value in enumerate(values)})

    def epoch_record(self) -> dict[str, float]:
        epoch = self.current_epoch
        record = {
            "temperature": self.annealing(self.steps_taken),
            "learning_rate": self.learning_rate(epoch),
            "test_accuracy": math.nan,
            "test_nmi": math.nan,
            "test_ari": math.nan,
        }
        if (epoch + 1) % self.settings.score_every == 0 or epoch + 1 == self.settings.max_epochs:
            clusters, _ = assign_all(self.vade, self.test_images, self.batch_size)
            scores = score(clusters, self.test_labels, self.vade.prior.num_clusters)
            record |= {"test_accuracy": scores.accuracy, "test_nmi": scores.nmi, "test_ari": scores.ari}
        return record

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.vade.parameters(), eps=self.settings.adam_epsilon, fused=True)


def assign_all(vade: VaDE, images: Tensor, batch_size: int, part_size: int = 5000) -> tuple[Tensor, Tensor]:
    """Cluster [digits] and posterior mean [digits, latent] of uint8 images [digits, pixels], on the CPU.

    ``batch_size`` is that of training, which the hypergeometric prior's probabilities depend on.
    """
    parts = [vade.assign(part.float() / 255, batch_size) for part in images.split(part_size)]
    clusters, means = (torch.cat(values).cpu() for values in zip(*parts))
    return clusters, means
