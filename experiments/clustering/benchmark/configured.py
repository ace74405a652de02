"""The project's model and trainer as a run of the prior's row has them, at the sizes of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import hydra
import torch
from omegaconf import OmegaConf
from torch import Tensor

from experiments.clustering.benchmark.settings import Settings
from experiments.clustering.corruption import Corruption
from experiments.clustering.data import Splits
from experiments.clustering.priors import Prior
from experiments.clustering.training import TrainingSettings, VaDETraining
from experiments.clustering.vade import VaDE
from experiments.common.configuration import CONFIGS

MINIMUM_VARIANCE, INITIAL_VARIANCE = 1e-4, 0.1


def random_images(digits: int, pixels: int) -> Tensor:
    """uint8 [digits, pixels]; what they show has no influence on the speed."""
    return torch.randint(256, (digits, pixels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Configured:
    """What the configuration files say.

    Attributes:
        settings: of the benchmark.
        training: of the VaDE, for one epoch.
        corruption: of what the encoder sees.
        trainer: arguments of the Lightning trainer.
        make_prior: a new prior.
    """

    settings: Settings
    training: TrainingSettings
    corruption: Corruption
    trainer: dict[str, Any]
    make_prior: Callable[[], Prior]

    @classmethod
    def read(cls, settings: Settings) -> Configured:
        """Composes the row ``clustering/<prior>_full``."""
        overrides = [f"experiment=clustering/{settings.prior}_full", f"trainer={settings.accelerator}"]
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra.compose("config", overrides)
        row, trainer = config.experiment, OmegaConf.to_container(config.trainer, resolve=True)
        assert isinstance(trainer, dict)
        return cls(
            settings,
            replace(hydra.utils.instantiate(row.training), batch_size=settings.batch_size, max_epochs=1, compile=False),
            hydra.utils.instantiate(row.corruption),
            {str(name): value for name, value in trainer.items()},
            lambda: hydra.utils.instantiate(row.prior, num_clusters=settings.clusters),
        )

    def vade(self, seed: int = 0) -> VaDE:
        """A model with random weights and components."""
        generator = torch.Generator().manual_seed(seed)
        vade = VaDE(
            widths=self.settings.widths,
            prior=self.make_prior(),
            minimum_variance=MINIMUM_VARIANCE,
            initial_variance=INITIAL_VARIANCE,
            generator=generator,
        )
        means = torch.empty_like(vade.mixture.means).normal_(generator=generator)
        vade.mixture.initialise(means, torch.ones_like(means))
        return vade

    def model(self, compile: bool = False) -> VaDETraining:
        """The training of one on random digits, as many as a round takes."""
        settings, pixels = self.settings, self.settings.widths[0]
        digits = (settings.warm_up + settings.steps) * settings.batch_size
        images, test_images = random_images(digits, pixels), random_images(settings.test_digits, pixels)
        labels = [torch.arange(count) % settings.clusters for count in (digits, settings.test_digits)]
        splits = Splits(
            train_images=images,
            train_labels=labels[0],
            test_images=test_images,
            test_labels=labels[1],
            test_subsampled=torch.arange(settings.test_digits),
            name="random",
            version="full",
            fingerprint="",
        )
        return VaDETraining(
            vade=self.vade(),
            splits=splits,
            settings=replace(self.training, compile=compile),
            corruption=self.corruption,
            noise_seed=0,
        )
