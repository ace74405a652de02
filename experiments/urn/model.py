"""Learns the weights of urns by stochastic gradient descent on the squared loss (Appendix B.5.1, Eq. 36-49)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mvhg import MultivariateHypergeometricStraightThrough, RelaxedMultivariateHypergeometric

RELAXATIONS = {
    "straight_through": MultivariateHypergeometricStraightThrough,
    "soft": RelaxedMultivariateHypergeometric,
}
CONDITIONALS = ("exact", "merged")
RANDOM_ORDER = "random"


class UrnModel(pl.LightningModule):
    """One vector of log weights per dataset, all trained at once.

    Each step takes a batch from every dataset and sums the losses of the datasets. The loss of a dataset depends on its
    own log weights only and Adam works element by element, so the run equals one separate run per dataset, at the cost
    of one.

    The curves are recorded every ``record_every`` steps into buffers of fixed size: no number is read back from the
    device during training, and a checkpoint holds the curves.

    Args:
        group_sizes: elements per group, m.
        total_count: elements drawn, n.
        names: a name for each dataset, for logging.
        num_steps: training steps, for the size of the buffers.
        record_every: steps between two records of the curves and of the validation loss.
        conditionals: ``"merged"`` (the paper's, Eq. 3) or ``"exact"``.
        group_order: order in which groups are sampled; ``"random"`` draws one per training step; None leaves it to
            ``mvhg`` (0..c-1 for merged, random per sample for exact).
        relaxation: ``"straight_through"`` (integer counts, gradient of the soft ones) or ``"soft"``.
        temperature: of the Gumbel-softmax, tau.
        learning_rate: of Adam.
        learning_rate_decay: factor on the learning rate after each epoch.
        noise_seed: seed of the sampling noise in training.
        validation_noise_seed: seed of the sampling noise in validation, the same every time.

    Raises:
        ValueError: a setting is outside of what is named above.
    """

    group_sizes: Tensor  # [groups]
    history_log_weights: Tensor  # [records, datasets, groups]
    history_train_loss: Tensor  # [records, datasets]
    history_validation_loss: Tensor  # [records, datasets]
    loss_sum: Tensor  # [datasets]

    def __init__(
        self,
        *,
        group_sizes: Sequence[int],
        total_count: int,
        names: Sequence[str],
        num_steps: int,
        record_every: int,
        conditionals: str,
        group_order: Sequence[int] | str | None,
        relaxation: str,
        temperature: float,
        learning_rate: float,
        learning_rate_decay: float,
        noise_seed: int,
        validation_noise_seed: int,
    ) -> None:
        super().__init__()
        if conditionals not in CONDITIONALS:
            raise ValueError(f"conditionals must be one of {', '.join(CONDITIONALS)}, got {conditionals!r}")
        if relaxation not in RELAXATIONS:
            raise ValueError(f"relaxation must be one of {', '.join(RELAXATIONS)}, got {relaxation!r}")
        if isinstance(group_order, str) and group_order != RANDOM_ORDER:
            raise ValueError(f"group_order must be a permutation, {RANDOM_ORDER!r} or null, got {group_order!r}")
        all_groups = list(range(len(group_sizes)))
        if isinstance(group_order, Sequence) and group_order != RANDOM_ORDER and sorted(group_order) != all_groups:
            raise ValueError(f"group_order must be a permutation of {all_groups}, got {list(group_order)}")
        for name, value in (("temperature", temperature), ("learning_rate", learning_rate)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not 0 < learning_rate_decay <= 1:
            raise ValueError(f"learning_rate_decay must lie in (0, 1], got {learning_rate_decay}")
        if record_every < 1:
            raise ValueError(f"record_every must be at least 1, got {record_every}")

        self.total_count = total_count
        self.names = tuple(names)
        self.num_steps = num_steps
        self.record_every = record_every
        self.conditionals = conditionals
        self.group_order = group_order
        self.relaxation = RELAXATIONS[relaxation]
        self.temperature = temperature
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.noise_seeds = {"train": noise_seed, "validation": validation_noise_seed}
        self._generators: dict[str, torch.Generator] = {}
        self._noise_state: Tensor | None = None

        num_datasets, num_groups = len(self.names), len(group_sizes)
        num_records = num_steps // record_every + 1
        self.log_weights = nn.Parameter(torch.zeros(num_datasets, num_groups))
        self.register_buffer("group_sizes", torch.tensor(list(group_sizes)), persistent=False)
        self.register_buffer("history_log_weights", torch.full((num_records, num_datasets, num_groups), torch.nan))
        self.register_buffer("history_train_loss", torch.full((num_records, num_datasets), torch.nan))
        self.register_buffer("history_validation_loss", torch.full((num_records, num_datasets), torch.nan))
        self.register_buffer("loss_sum", torch.zeros(num_datasets))
        self.history_log_weights[0] = 0.0

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Relaxed samples of every urn, [num_samples, datasets, groups], differentiable in the log weights."""
        group_order: Sequence[int] | None
        if isinstance(self.group_order, str):  # random
            num_groups = self.log_weights.shape[-1]
            group_order = torch.randperm(num_groups, generator=generator, device=generator.device).tolist()
        else:
            group_order = self.group_order
        law = self.relaxation(
            self.temperature,
            self.total_count,
            self.group_sizes,
            log_weights=self.log_weights,
            conditionals=self.conditionals,
            group_order=group_order,
            validate_args=False,
        )
        return law.rsample((num_samples,), generator=generator)

    def squared_loss(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over the batch of sum_c (X_D,c - X_c)^2 (Eq. 43), [datasets], for counts [batch, datasets, groups]."""
        drawn = self.draw(observed.shape[0], generator)
        return (observed - drawn).square().sum(-1).mean(0)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        losses = self.squared_loss(batch[0], self._generators["train"])
        self.loss_sum += losses.detach()
        return losses.sum()

    def on_train_batch_end(self, outputs: Any, batch: Sequence[Tensor], batch_idx: int) -> None:
        record, offset = divmod(self.global_step, self.record_every)
        if offset == 0:
            self.history_log_weights[record] = self.log_weights.detach()
            self.history_train_loss[record] = self.loss_sum / self.record_every
            self.loss_sum.zero_()
            self._log(
                {
                    **self._by_name("train_loss", self.history_train_loss[record]),
                    **{
                        key: value
                        for group in range(self.log_weights.shape[-1])
                        for key, value in self._by_name(f"log_weight_{group + 1}", self.log_weights[:, group]).items()
                    },
                }
            )

    def on_validation_start(self) -> None:
        # The same noise every time, so that the curve shows the weights and not the noise; a stream of its own, so that
        # training does not depend on how often it is validated.
        self._generators["validation"].manual_seed(self.noise_seeds["validation"])

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        record, offset = divmod(self.global_step, self.record_every)
        if offset > 0:  # the sanity check of a run that was resumed between two records
            return
        self.history_validation_loss[record] = self.squared_loss(batch[0], self._generators["validation"])
        if not self.trainer.sanity_checking:
            self._log(self._by_name("validation_loss", self.history_validation_loss[record]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=self.learning_rate_decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_fit_start(self) -> None:
        for name, seed in self.noise_seeds.items():
            self._generators[name] = torch.Generator(device=self.device).manual_seed(seed)
        if self._noise_state is not None:
            self._generators["train"].set_state(self._noise_state)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["urn_noise_state"] = self._generators["train"].get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Before the module is moved to its device; on_fit_start hands the state to the generator.
        self._noise_state = checkpoint["urn_noise_state"].cpu()

    def _by_name(self, quantity: str, values: Tensor) -> dict[str, float]:
        return {f"{quantity}/{name}": value for name, value in zip(self.names, values.tolist(), strict=True)}

    def _log(self, values: dict[str, float]) -> None:
        # Straight to the loggers: `self.log` costs more than a whole training step for this many values.
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step)
