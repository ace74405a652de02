"""Tiny trainings for the tests: images, a fit, and a record of what every step changes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.row_training import RowTraining

WIDTHS = (16, 7, 5, 3)
DIGITS, BATCH = 10, 4  # three steps per epoch, the last one smaller
STEPS = 3


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def byte_images(digits: int = DIGITS, seed: int = 3) -> Tensor:
    return torch.randint(256, (digits, WIDTHS[0]), generator=generator(seed), dtype=torch.uint8)


class Recorder(pl.Callback):
    """Keeps the parameters before and after every step and the learning rate that each optimizer has."""

    def __init__(self) -> None:
        self.parameters: list[dict[str, Tensor]] = []
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parameters.append({name: value.detach().clone() for name, value in pl_module.named_parameters()})

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.on_train_start(trainer, pl_module)
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    def changed(self, step: int) -> set[str]:
        """The layers that a step changes."""
        before, after = self.parameters[step : step + 2]
        return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


def fit(model: RowTraining, epochs: int, steps_per_chunk: int = 1, order_seed: int = 0) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, model.chunks(order_seed, steps_per_chunk))
    return recorder
