"""The sides that take turns: each is built once and then trains for one round at a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.benchmark.turns import (
    Clock,
    check_compiler,
    device_of,
    first_compiled_step,
    own_determinism,
    synchronizer,
)
from experiments.clustering.benchmark.configured import (
    INITIAL_VARIANCE,
    MINIMUM_VARIANCE,
    Configured,
    random_images,
)
from experiments.clustering.benchmark.plain import LEARNING_RATE, PlainVaDE, plain_loop
from experiments.clustering.benchmark.settings import Settings
from experiments.clustering.benchmark.stacked import StackedVaDE
from experiments.clustering.data import index_chunks
from experiments.common.context import RunContext
from experiments.common.store import RunDirectory
from experiments.common.tracking import Tracker
from mvhg import ExponentialAnnealing

TEMPERATURE = ExponentialAnnealing(1.0, 0.5, 10_000)


class ProjectSide:
    """A run's training: its trainer, its logger, its chunks, a checkpoint at the end of the epoch.

    Args:
        configured: the settings of a run.
        folder: for checkpoints.
        tracker: with the logger, if any.
        compile: compile the bound.
        precision: of the trainer.
    """

    def __init__(
        self,
        configured: Configured,
        folder: Path,
        tracker: Tracker,
        *,
        compile: bool = False,
        precision: str = "32-true",
    ) -> None:
        self.configured = configured
        self.settings = configured.settings
        self.folder = folder
        self.tracker = tracker
        self.precision = precision
        self.model = configured.model(compile)
        self.end_seconds: list[float] = []  # of the end of the epoch, round by round

    def fit(self, steps: int, *callbacks: pl.Callback) -> Clock:
        """Trains for an epoch of so many steps."""
        # A context of its own: the last one would hold on to its trainer and the optimizer's state.
        run = RunDirectory(self.folder, "benchmark", "run")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        context = RunContext(0, run, self.tracker, self.configured.trainer)
        clock = Clock(synchronizer(self.settings.accelerator))
        chunks = index_chunks(steps * self.settings.batch_size, self.settings.batch_size, self.settings.warm_up, 0)
        with own_determinism():
            trainer = context.trainer(max_epochs=1, callbacks=[*callbacks, clock], precision=self.precision)
            trainer.fit(self.model, chunks)
        if trainer.interrupted:
            raise KeyboardInterrupt
        return clock

    def round(self) -> float:
        """Steps per second after the first chunk; the end of the epoch counts apart."""
        clock = self.fit(self.settings.warm_up + self.settings.steps)
        self.end_seconds.append(clock.end_seconds())
        return 1 / clock.seconds_per_step()


class PlainSide:
    """The bare loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        device = device_of(settings.accelerator)
        digits = (settings.warm_up + settings.steps) * settings.batch_size
        self.images = random_images(digits, settings.widths[0]).to(device) / 255
        self.model = PlainVaDE(settings.widths, settings.clusters, settings.prior, MINIMUM_VARIANCE, INITIAL_VARIANCE)
        self.model.to(device)

    def round(self) -> float:
        """Steps per second."""
        seconds = plain_loop(
            self.model,
            torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True),
            self.images,
            batch_size=self.settings.batch_size,
            steps=self.settings.steps,
            warm_up=self.settings.warm_up,
            temperature=TEMPERATURE,
            synchronize=synchronizer(self.settings.accelerator),
        )
        return self.settings.steps / seconds


class StackedSide:
    """Several seeds in one loop, each with its own order of the digits.

    Args:
        configured: the settings of a run.
        seeds: how many.
    """

    def __init__(self, configured: Configured, seeds: int) -> None:
        self.settings = settings = configured.settings
        self.seeds = seeds
        self.device = device_of(settings.accelerator)
        self.steps, self.warm_up = (max(1, count // seeds) for count in (settings.steps, settings.warm_up))
        digits = (self.warm_up + self.steps) * settings.batch_size
        self.images = random_images(digits, settings.widths[0]).to(self.device)
        self.stacked = StackedVaDE([configured.vade(seed).to(self.device) for seed in range(seeds)])
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in range(seeds)]

    def round(self) -> float:
        """Steps per second times the number of seeds."""
        batch_size, synchronize = self.settings.batch_size, synchronizer(self.settings.accelerator)
        optimizer = torch.optim.Adam(self.stacked.parameters.values(), lr=LEARNING_RATE, fused=True)
        orders = torch.stack([torch.randperm(len(self.images), device=self.device) for _ in range(self.seeds)])
        elbos: list[Tensor] = []
        start = 0.0
        for step, indices in enumerate(orders.split(batch_size, 1)):
            if step == self.warm_up:
                synchronize()
                start = time.perf_counter()
            images = self.images[indices].float().div_(255)  # [seeds, batch, pixels]
            noise = self.stacked.draw_noise(batch_size, self.generators)
            temperature = torch.full((), TEMPERATURE(step), device=self.device)
            elbo = self.stacked.terms(images, noise, temperature).elbo
            optimizer.zero_grad()
            elbo.sum().neg().backward()
            optimizer.step()
            elbos.append(elbo.detach())
        finite = bool(torch.stack(elbos).isfinite().all())
        synchronize()
        seconds = time.perf_counter() - start
        if not finite:
            raise FloatingPointError(f"the bound of one of {self.seeds} seeds is not finite")
        return self.seeds * self.steps / seconds


def compiled_side(configured: Configured, folder: Path, tracker: Tracker) -> tuple[ProjectSide, float]:
    """The compiled project, and the seconds of its first step, nearly all of them the compiler's.

    Raises:
        Skipped: there is no compiler, or it fails; with the reason.
    """
    check_compiler()
    side = ProjectSide(configured, folder, tracker, compile=True)
    return side, first_compiled_step(side.fit)
