"""Training of the VaDE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import nll_loss

from experiments.clustering.data import Splits
from experiments.clustering.networks import grey
from experiments.clustering.scores import score
from experiments.clustering.vade import Terms, VaDE
from experiments.row_training import RowTraining
from experiments.settings import ExperimentError, NonNegative, Positive, PositiveInt, Temperature, settings
from experiments.training import adam
from mvhg import ExponentialAnnealing

PositiveShare = Annotated[float, Field(gt=0, le=1)]


@settings
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
        prior_learning_rate_factor: on the rate of the prior's weights, which start equal.
        initial_temperature: of the Gumbel-softmax.
        final_temperature: reached after ``annealing_share`` of the steps, by an exponential.
        annealing_share: see there.
        score_every: epochs between two scores in the history; nothing depends on them.
        encoder_learning_rate_factor: on the rate of the encoder; 0 keeps it as pretraining left it.
        kl_weight: of all terms of the bound but the reconstruction; 1 for the bound itself.
        guidance_weight: of the mean log q(c | x) of the clusters that pretraining found, at the first step; 0 for none.
        final_guidance_weight: the same at the last step, reached by a straight line.
    """

    max_epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Positive
    learning_rate_decay: PositiveShare
    decay_epochs: PositiveInt
    minimum_learning_rate: NonNegative
    adam_epsilon: Positive
    prior_learning_rate_factor: Positive
    initial_temperature: Temperature
    final_temperature: Temperature
    annealing_share: PositiveShare
    score_every: PositiveInt
    encoder_learning_rate_factor: NonNegative
    kl_weight: Positive
    guidance_weight: NonNegative = 0.0
    final_guidance_weight: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.minimum_learning_rate > self.learning_rate:
            raise ValueError(
                f"minimum_learning_rate {self.minimum_learning_rate:g} is above learning_rate {self.learning_rate:g}"
            )

    @property
    def idle_settings(self) -> set[str]:
        """Settings that have no part in the learning rate or the temperature beside the others."""
        return {"annealing_share"} if self.initial_temperature == self.final_temperature else set()

    def idle_changes(self, replaced: Mapping[str, Any]) -> set[str]:
        """Changed settings with whose former value each epoch has the same learning rate.

        Raises:
            ExperimentError: no epoch decays, by a setting that is for something else.
        """
        if "decay_epochs" in replaced and self.learning_rate_decay != 1 and self.decay_epochs >= self.max_epochs:
            raise ExperimentError(
                f"experiment.training.decay_epochs must be below the {self.max_epochs} epochs, got "
                f"{self.decay_epochs}; for no decay give experiment.training.learning_rate_decay=1"
            )
        names = ("learning_rate_decay", "decay_epochs", "minimum_learning_rate")
        return {name for name in names if name in replaced and self._rates(**{name: replaced[name]}) == self._rates()}

    def _rates(self, **replaced: float) -> list[float]:
        return [self.learning_rate_at(epoch, **replaced) for epoch in range(self.max_epochs)]

    def learning_rate_at(self, epoch: int, **replaced: float) -> float:
        """The learning rate of an epoch, counted from 0; with other settings where some are given by name."""
        own = vars(self) | replaced
        decayed = own["learning_rate"] * own["learning_rate_decay"] ** (epoch // own["decay_epochs"])
        return float(max(decayed, own["minimum_learning_rate"]))


class VaDETraining(RowTraining):
    """Maximises the evidence lower bound, and what the settings add to keep the clusters.

    Args:
        vade: the model.
        splits: its digits; labels are used for the scores in the history alone.
        found: cluster of every training digit that pretraining found, without a label, [digits].
        settings: see there.
        noise_seed: seed of everything drawn in training.
    """

    test_images: Tensor
    found: Tensor
    guidance: Tensor  # its weight in the step that is taken
    capturable = True

    def __init__(
        self, *, vade: VaDE, splits: Splits, found: Tensor, settings: TrainingSettings, noise_seed: int
    ) -> None:
        super().__init__(
            rows=splits.train_images,
            batch_size=settings.batch_size,
            noise_seed=noise_seed,
            term_names=["elbo", *Terms._fields, "agreement"],
        )
        self.vade = vade
        self.settings = settings
        self.test_labels = splits.test_labels
        self.register_buffer("test_images", splits.test_images, persistent=False)
        self.register_buffer("found", found, persistent=False)
        self.register_buffer("guidance", torch.zeros(()), persistent=False)
        self.num_steps = settings.max_epochs * self.steps_per_epoch
        annealing_steps = max(1, round(settings.annealing_share * self.num_steps))
        self.annealing = ExponentialAnnealing(settings.initial_temperature, settings.final_temperature, annealing_steps)

    def next_temperature(self) -> float:
        return self.annealing(self.steps_taken)

    def step_loss(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = grey(rows)
        noise = self.vade.draw_noise(len(images), self.generator)
        terms, log_responsibilities = self.vade.terms(images, noise, self.temperature)
        agreement = -nll_loss(log_responsibilities, self.found[indices])
        rest = terms.latent + terms.assignment + terms.prior_term
        loss = -(terms.reconstruction + self.settings.kl_weight * rest) - self.guidance * agreement
        return loss, torch.stack([terms.elbo, *terms, agreement])

    def step_optimizer(self) -> tuple[int, float]:
        first, last = self.settings.guidance_weight, self.settings.final_guidance_weight
        self.guidance.fill_(first + (last - first) * self.steps_taken / max(1, self.num_steps - 1))
        return 0, self.settings.learning_rate_at(self.current_epoch)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        log_weights = self.vade.prior.log_weights()
        if log_weights is not None:
            values = log_weights.detach().tolist()
            self._log({f"log_weight/cluster_{cluster}": value for cluster, value in enumerate(values)})

    def epoch_record(self) -> dict[str, float]:
        epoch = self.current_epoch
        record = {"temperature": self.next_temperature(), "learning_rate": self.settings.learning_rate_at(epoch)}
        record |= dict.fromkeys(("test_accuracy", "test_nmi", "test_ari"), math.nan)
        if (epoch + 1) % self.settings.score_every == 0 or epoch + 1 == self.settings.max_epochs:
            clusters = assign_all(self.vade, self.test_images, self.batch_size)
            scores = score(clusters, self.test_labels, self.vade.prior.num_clusters)
            record |= {"test_accuracy": scores.accuracy, "test_nmi": scores.nmi, "test_ari": scores.ari}
        return record

    def configure_optimizers(self) -> torch.optim.Optimizer:
        vade, settings = self.vade, self.settings
        encoder = [*vade.autoencoder.encoder.parameters(), *vade.log_variance.parameters()]
        rest = [*vade.autoencoder.decoder.parameters(), *vade.mixture.parameters()]
        groups = [
            {"params": encoder, "learning_rate_factor": settings.encoder_learning_rate_factor},
            {"params": rest, "learning_rate_factor": 1.0},
            {"params": list(vade.prior.parameters()), "learning_rate_factor": settings.prior_learning_rate_factor},
        ]
        return adam([group for group in groups if group["params"]], self.device, eps=settings.adam_epsilon)


def assign_all(vade: VaDE, images: Tensor, batch_size: int, part_size: int = 5000) -> Tensor:
    """Cluster of uint8 images [digits, pixels], [digits] on the CPU.

    ``batch_size`` is that of training, which the hypergeometric prior's probabilities depend on.
    """
    device = vade.mixture.means.device
    parts = (grey(part.to(device)) for part in images.split(part_size))
    return torch.cat([vade.assign(part, batch_size) for part in parts]).cpu()
