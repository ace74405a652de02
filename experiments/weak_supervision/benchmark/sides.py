"""The sides that take turns: each is built once and then trains for one round at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytorch_lightning as pl
import torch

from experiments.benchmark.turns import Clock, check_compiler, device_of, own_determinism, synchronizer
from experiments.common.context import RunContext
from experiments.common.store import RunDirectory
from experiments.common.tracking import Tracker
from experiments.weak_supervision.benchmark.configured import Configured
from experiments.weak_supervision.benchmark.plain import PlainLabelVAE, plain_loop
from experiments.weak_supervision.benchmark.settings import Settings
from experiments.weak_supervision.data import PairSplits
from experiments.weak_supervision.training import place

LABEL, ADA, HG, EVIDENCE = METHODS = ("label_vae", "ada_vae", "hgvae", "evidence_hgvae")
HG_INITIAL, PLAIN, HALF, COMPILED = "hgvae_initial_temperature", "plain", "label_vae_bf16", "label_vae_compiled"
SIDES = (*METHODS, HG_INITIAL, PLAIN, HALF, COMPILED)


class Side(Protocol):
    """Something that trains."""

    def train(self, steps: int) -> None:
        """Takes so many steps."""
        ...

    def round(self) -> float:
        """Seconds per step of one turn, the warm-up left out."""
        ...


class ProjectSide:
    """A run's training: its trainer, its logger, its chunks, a checkpoint at the end of the epoch.

    Args:
        settings: of the benchmark.
        splits: images and pairs.
        folder: for checkpoints.
        tracker: with the logger, if any.
        method: of the rows.
        initial: at the temperature that a run starts with, not the one that it ends with.
        compile: compile encoder and decoder.
        precision: of the trainer.
    """

    def __init__(
        self,
        settings: Settings,
        splits: PairSplits,
        folder: Path,
        tracker: Tracker,
        *,
        method: str = LABEL,
        initial: bool = False,
        compile: bool = False,
        precision: str = "32-true",
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.tracker = tracker
        self.precision = precision
        configured = Configured.read(settings, method)
        self.trainer = configured.trainer
        training = configured.training
        temperature = training.initial_temperature if initial else training.final_temperature
        self.module = configured.module(splits, temperature, compile)

    def fit(self, steps: int, *callbacks: pl.Callback) -> Clock:
        """Trains for an epoch of so many steps."""
        # A context of its own: the last one would hold on to its trainer and the optimizer's state.
        run = RunDirectory(self.folder, "benchmark", "run")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        context = RunContext(0, run, self.tracker, self.trainer)
        clock = Clock(synchronizer(self.settings.accelerator))
        chunk = min(steps, self.settings.warm_up)
        self.module.settings = replace(self.module.settings, steps=steps, epoch_steps=steps, chunk_steps=chunk)
        self.module.steps_taken = 0  # pairs are drawn at multiples of the chunk, which isn't the last round's
        with own_determinism():
            trainer = context.trainer(
                max_epochs=1, callbacks=[*callbacks, clock], precision=self.precision, use_distributed_sampler=False
            )
            trainer.fit(self.module, self.module.loader(trainer.world_size))
        if trainer.interrupted:
            raise KeyboardInterrupt
        return clock

    def train(self, steps: int) -> None:
        self.fit(steps)

    def round(self) -> float:
        return self.fit(self.settings.warm_up + self.settings.steps).seconds_per_step()


class PlainSide:
    """The bare loop, with the images where the project's training would have them."""

    def __init__(self, settings: Settings, splits: PairSplits) -> None:
        self.settings = settings
        self.device = device_of(settings.accelerator)
        self.images = place(splits.images, self.device, None)
        self.sampler = splits.train.to(self.device)
        num_latents = Configured.read(settings, LABEL).make_model().num_latents
        self.model = PlainLabelVAE(num_latents, settings.image_size).to(self.device)

    def _loop(self, steps: int, warm_up: int) -> float:
        return plain_loop(
            self.model,
            self.images,
            self.sampler,
            batch_size=self.settings.batch_size,
            steps=steps,
            warm_up=warm_up,
            device=self.device,
            synchronize=synchronizer(self.settings.accelerator),
        )

    def train(self, steps: int) -> None:
        self._loop(steps, 1)

    def round(self) -> float:
        return self._loop(self.settings.steps, self.settings.warm_up) / self.settings.steps


def make_side(name: str, settings: Settings, splits: PairSplits, folder: Path, tracker: Tracker) -> Side:
    """Builds one of ``SIDES``.

    Raises:
        Skipped: there is no compiler for the compiled one.
    """
    if name == PLAIN:
        return PlainSide(settings, splits)
    if name == HG_INITIAL:
        return ProjectSide(settings, splits, folder, tracker, method=HG, initial=True)
    if name == HALF:
        return ProjectSide(settings, splits, folder, tracker, precision="bf16-mixed")
    if name == COMPILED:
        check_compiler()
        torch.compiler.reset()  # nothing is left of networks of another size, and no limit of recompilations is near
        return ProjectSide(settings, splits, folder, tracker, compile=True)
    return ProjectSide(settings, splits, folder, tracker, method=name)
