"""How long a training will take."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl

from experiments.common.chunked import ChunkedTraining

log = logging.getLogger("experiments")


class RateEstimate(pl.Callback):
    """Says how long the training will take, from the rate of its first chunks; a long run is known as one at once.

    Args:
        chunks: after how many chunks to say it; the first one is left out, since it warms up.
    """

    def __init__(self, chunks: int = 4) -> None:
        self.chunks = chunks
        self.seen = 0
        self.started = 0.0
        self.first_step = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ChunkedTraining)
        self.seen += 1
        if self.seen == 1:
            self.started, self.first_step = time.perf_counter(), pl_module.steps_taken
        elif self.seen == self.chunks:
            rate = (pl_module.steps_taken - self.first_step) / (time.perf_counter() - self.started)
            assert trainer.max_epochs is not None
            left = trainer.max_epochs * pl_module.steps_per_epoch - pl_module.steps_taken
            log.info("  %.1f steps/s: %.1f minutes for the %d steps left", rate, left / rate / 60, left)
