"""Where the time of the project's step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.clustering.benchmark.sides import ProjectSide, device_of, synchronizer
from experiments.clustering.training import VaDETraining

BETWEEN, BODY = "Lightning between two chunks", "batch from the digits, zero_grad, terms, checks"
FORWARD, NOISE, PRIOR = "network and bound, forward", "noise", "prior, forward"
BACKWARD, WRAPPER, ADAM, LOG = "backward (the prior's included)", "Lightning around the optimizer", "Adam", "logger"
PRIOR_ALONE = "of which the prior alone, forward and backward"
PARTS = (FORWARD, NOISE, PRIOR, BACKWARD, ADAM, BODY, LOG, WRAPPER, BETWEEN)


class Laps(pl.Callback):
    """Splits the time of training among the functions it passes through; the first chunk is left out.

    The innermost of the functions below that is being called gets the time. On a GPU the device is waited for at
    every change, so that the parts add up to more than an undisturbed step.

    Args:
        synchronize: waits for the device.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self.total: dict[str, float] = {}
        self._active = [BETWEEN]
        self._last = 0.0
        self._first_step: int | None = None

    def enter(self, name: str) -> None:
        """From here on the time is ``name``'s."""
        self._lap()
        self._active.append(name)

    def leave(self) -> None:
        """Back to where the last ``enter`` was called."""
        self._lap()
        self._active.pop()

    def _lap(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._active[-1]] += now - self._last
        self._last = now

    def around(self, owner: object, method: str, name: str) -> None:
        """Replaces a method of one object by itself with ``enter`` and ``leave`` around it."""
        function = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            self.enter(name)
            try:
                return function(*arguments, **keywords)
            finally:
                self.leave()

        setattr(owner, method, timed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, VaDETraining)
        self.around(pl_module, "training_step", BODY)
        self.around(pl_module, "bound", FORWARD)
        self.around(pl_module.vade, "draw_noise", NOISE)
        for method in ("log_probabilities", "expected_log_prob"):
            self.around(pl_module.vade.prior, method, PRIOR)
        self.around(pl_module, "manual_backward", BACKWARD)
        self.around(trainer.strategy, "optimizer_step", WRAPPER)
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(lambda *_: self.enter(ADAM))
            optimizer.register_step_post_hook(lambda *_: self.leave())
        for logger in trainer.loggers:
            self.around(logger, "log_metrics", LOG)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, VaDETraining)
        self._lap()
        if self._first_step is None:
            self._first_step = pl_module.steps_taken
            self.seconds.clear()
        self.steps = pl_module.steps_taken - self._first_step
        self.total = dict(self.seconds)  # what the end of the epoch adds is no step's

    def milliseconds(self) -> dict[str, float]:
        """Of one step, part by part."""
        return {name: 1e3 * self.total.get(name, 0.0) / self.steps for name in PARTS}


def profile(side: ProjectSide) -> dict[str, float]:
    """Milliseconds of a step, part by part; the side's model is not to be used after it."""
    laps = Laps(synchronizer(side.settings))
    side.fit(side.settings.warm_up + side.settings.steps, laps)
    return laps.milliseconds()


def prior_alone(side: ProjectSide, repeats: int) -> float:
    """Milliseconds of the prior's share of a step, forward and backward, outside the network."""
    settings, device, synchronize = side.settings, device_of(side.settings), synchronizer(side.settings)
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
