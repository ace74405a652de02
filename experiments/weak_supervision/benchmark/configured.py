"""The project's model, data and trainer as a run of a method's row has them, at the sizes of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import hydra
import torch
from omegaconf import OmegaConf

from experiments.common.configuration import CONFIGS
from experiments.weak_supervision.benchmark.settings import Settings
from experiments.weak_supervision.data import PairData, PairSplits
from experiments.weak_supervision.group_vae import GroupVAE
from experiments.weak_supervision.training import PairTraining, TrainingSettings

SOURCE, POSITIONS = "mpi3d_sim", 8  # what is shipped


@dataclass(frozen=True)
class Configured:
    """What the configuration files say of a method, at the paper's budget.

    Attributes:
        data: pairs of the shipped images.
        training: of the paper's length.
        trainer: arguments of the Lightning trainer.
        make_model: a new model.
    """

    data: PairData
    training: TrainingSettings
    trainer: dict[str, Any]
    make_model: Callable[[], GroupVAE]

    @classmethod
    @cache  # every side asks, and hydra takes a while
    def read(cls, settings: Settings, method: str) -> Configured:
        """Composes the row ``weak_supervision/<method>_s<shared>``."""
        sizes = {
            "data": SOURCE,
            "positions": POSITIONS,
            "image_size": settings.image_size,
            "batch_size": settings.batch_size,
        }
        overrides = [
            f"experiment=weak_supervision/{method}_s{settings.shared}",
            "profile=paper",
            f"trainer={settings.accelerator}",
            *(f"profile.weak_supervision.{name}={value}" for name, value in sizes.items()),
        ]
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra.compose("config", overrides)
        row, trainer = config.experiment, OmegaConf.to_container(config.trainer, resolve=True)
        assert isinstance(trainer, dict)
        return cls(
            hydra.utils.instantiate(row.data),
            hydra.utils.instantiate(row.training),
            {str(name): value for name, value in trainer.items()},
            hydra.utils.instantiate(row.model),
        )

    def module(self, splits: PairSplits, temperature: float, compile: bool) -> PairTraining:
        """The training of a new model at one temperature."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.make_model()
        settings = replace(
            self.training, initial_temperature=temperature, final_temperature=temperature, compile=compile
        )
        return PairTraining(model=model, images=splits.images, sampler=splits.train, settings=settings, noise_seed=0)

    def share_above_one(self) -> float:
        """Share of a run's steps at temperatures above 1, where HGVAE draws in another way."""
        training = self.training
        if training.initial_temperature <= 1 or training.final_temperature >= training.initial_temperature:
            return 0.0
        decay = math.log(training.initial_temperature) - math.log(training.final_temperature)
        return min(1.0, training.annealing_steps * math.log(training.initial_temperature) / decay / training.steps)
