"""Where the time of the project's step goes."""

from __future__ import annotations

import time

import pytorch_lightning as pl
import torch

from experiments.benchmark.laps import Laps
from experiments.benchmark.turns import device_of, synchronizer
from experiments.clustering.benchmark.sides import ProjectSide
from experiments.clustering.training import VaDETraining
from experiments.common.chunked import ChunkedTraining

BETWEEN, BODY = "Lightning between two chunks", "batch from the digits, zero_grad, terms, checks"
FORWARD, NOISE, PRIOR = "network and bound, forward", "noise", "prior, forward"
BACKWARD, WRAPPER, ADAM, LOG = "backward (the prior's included)", "Lightning around the optimizer", "Adam", "logger"
PRIOR_ALONE = "of which the prior alone, forward and backward"
PARTS = (FORWARD, NOISE, PRIOR, BACKWARD, ADAM, BODY, LOG, WRAPPER, BETWEEN)


class VaDELaps(Laps):
    """Watches the parts of the VaDE's step."""

    def watch(self, trainer: pl.Trainer, module: ChunkedTraining) -> None:
        assert isinstance(module, VaDETraining)
        self.around(module, "training_step", BODY)
        self.around(module, "bound", FORWARD)
        self.around(module.vade, "draw_noise", NOISE)
        for method in ("log_probabilities", "expected_log_prob"):
            self.around(module.vade.prior, method, PRIOR)
        self.around(module, "manual_backward", BACKWARD)
        self.around(trainer.strategy, "optimizer_step", WRAPPER)
        self.around_optimizers(trainer, ADAM)
        for logger in trainer.loggers:
            self.around(logger, "log_metrics", LOG)


def profile(side: ProjectSide) -> dict[str, float]:
    """Milliseconds of a step, part by part; the side's model is not to be used after it."""
    laps = VaDELaps(synchronizer(side.settings.accelerator), BETWEEN)
    side.fit(side.settings.warm_up + side.settings.steps, laps)
    return laps.milliseconds(PARTS)


def prior_alone(side: ProjectSide, repeats: int) -> float:
    """Milliseconds of the prior's share of a step, forward and backward, outside the network."""
    settings, accelerator = side.settings, side.settings.accelerator
    device, synchronize = device_of(accelerator), synchronizer(accelerator)
    prior = side.configured.make_prior().to(device)
    generator = torch.Generator(device).manual_seed(0)
    shape = settings.batch_size, settings.clusters
    scores = torch.empty(shape, device=device).normal_(generator=generator)
    gumbel = torch.empty(shape, device=device).exponential_(generator=generator).log().neg()
    temperature = torch.full((), 0.7, device=device)

    def step() -> None:
        leaf = scores.clone().requires_grad_()
        log_responsibilities = (prior.log_probabilities(settings.batch_size) + leaf).log_softmax(-1)
        term = prior.expected_log_prob(log_responsibilities, gumbel, temperature)
        (term + log_responsibilities.mean()).backward()  # of the uniform prior only the second has a gradient

    step()
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronize()
    return 1e3 * (time.perf_counter() - start) / repeats
