"""Learns the weights of urns by stochastic gradient descent on the squared loss (Appendix B.5.1, Eq. 36-49)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from experiments.training import require_same_device
from mvhg import MultivariateHypergeometricStraightThrough

if TYPE_CHECKING:
    from experiments.urn.training import UrnTraining


class UrnModel(pl.LightningModule):
    """One vector of log weights per dataset, all trained at once.

    Each step takes a batch from every dataset and sums the losses of the datasets. The loss of a dataset depends on its
    own log weights only and Adam works element by element, so the run equals one separate run per dataset, at the cost
    of one.

    The curves are recorded into buffers of fixed size: no number is read back from the device during training, and a
    checkpoint holds the curves.

    Args:
        training: The settings.
        validation: Counts that are not trained on, float32 [samples, datasets, groups].
        noise_seed: Seed of the sampling noise in training.
        validation_noise_seed: Seed of the sampling noise in validation, the same every time.
    """

    group_sizes: Tensor  # [groups]
    validation: Tensor  # [samples, datasets, groups]
    history: Tensor  # [records, datasets, columns]
    loss_sum: Tensor  # [datasets]

    def __init__(self, training: UrnTraining, validation: Tensor, noise_seed: int, validation_noise_seed: int) -> None:
        super().__init__()
        self.settings = training
        self.record_every = min(training.record_every, training.num_steps)
        self.noise_seed, self.validation_noise_seed = noise_seed, validation_noise_seed
        self._generator = torch.Generator()
        self._noise_state: Tensor | None = None
        self.register_buffer("validation", validation, persistent=False)

        sizes = training.problem.group_sizes
        num_datasets, num_groups = training.problem.num_datasets, len(sizes)
        num_records = training.num_steps // self.record_every + 1
        self.columns = [*(f"log_weight_{group + 1}" for group in range(num_groups)), "train_loss", "validation_loss"]
        self.log_weights = nn.Parameter(torch.zeros(num_datasets, num_groups))
        self.register_buffer("group_sizes", torch.tensor(sizes), persistent=False)
        self.register_buffer("history", torch.full((num_records, num_datasets, len(self.columns)), torch.nan))
        self.register_buffer("loss_sum", torch.zeros(num_datasets))

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Straight-through samples of every urn, [num_samples, datasets, groups], differentiable in the log weights."""
        order = self.settings.group_order
        if order == "random":
            num_groups = self.log_weights.shape[-1]
            order = torch.randperm(num_groups, generator=generator, device=generator.device).tolist()
        law = MultivariateHypergeometricStraightThrough(
            self.settings.temperature,
            self.settings.problem.total_count,
            self.group_sizes,
            log_weights=self.log_weights,
            conditionals=self.settings.conditionals,
            group_order=order,
            validate_args=False,
        )
        return law.rsample((num_samples,), generator=generator)

    def squared_loss(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Mean over the batch of sum_c (X_D,c - X_c)^2 (Eq. 43), [datasets], for counts [batch, datasets, groups]."""
        drawn = self.draw(observed.shape[0], generator)
        return (observed - drawn).square().sum(-1).mean(0)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        losses = self.squared_loss(batch[0], self._generator)
        self.loss_sum += losses.detach()
        return losses.sum()

    def on_train_start(self) -> None:
        if self.global_step == 0:
            self._record(torch.full_like(self.loss_sum, torch.nan))

    def on_train_batch_end(self, outputs: Any, batch: Sequence[Tensor], batch_idx: int) -> None:
        if self.global_step % self.record_every == 0:
            self._record(self.loss_sum / self.record_every)
            self.loss_sum.zero_()

    @torch.no_grad()
    def _record(self, train_loss: Tensor) -> None:
        """Records log weights, the training loss [datasets] and the loss on samples that are not trained on."""
        # The same noise every time, so that the curve shows the weights and not the noise; a stream of its own, so that
        # training does not depend on how often it is looked at.
        generator = torch.Generator(device=self.device).manual_seed(self.validation_noise_seed)
        losses = torch.stack([train_loss, self.squared_loss(self.validation, generator)], -1)
        record = torch.cat([self.log_weights, losses], -1)
        self.history[self.global_step // self.record_every] = record
        # Straight to the loggers: `self.log` costs more than a whole training step for this many values.
        if self.global_step and self.loggers:
            table = zip(self.columns, record.T.tolist(), strict=True)
            names = self.settings.names
            values = {f"{column}/{name}": one for column, line in table for name, one in zip(names, line, strict=True)}
            for logger in self.loggers:
                logger.log_metrics(values, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.settings.learning_rate)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=self.settings.learning_rate_decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_fit_start(self) -> None:
        self._generator = torch.Generator(device=self.device).manual_seed(self.noise_seed)
        if self._noise_state is not None:
            self._generator.set_state(self._noise_state)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["urn"] = {"noise_state": self._generator.get_state(), "device": self.device.type}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_device(checkpoint["urn"]["device"], self.trainer)
        # Before the module is moved to its device; on_fit_start hands the state to the generator.
        self._noise_state = checkpoint["urn"]["noise_state"].cpu()
