"""Tiny images, models and trainings of image pairs for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.data.sources import FACTORS
from experiments.weak_supervision.group_vae import Context, GroupVAE
from experiments.weak_supervision.methods.ada_vae import AdaVAE
from experiments.weak_supervision.methods.fixed_k import FixedK
from experiments.weak_supervision.methods.hgvae import HGVAE
from experiments.weak_supervision.methods.label_vae import LabelVAE
from experiments.weak_supervision.methods.posterior_hgvae import PosteriorHGVAE
from experiments.weak_supervision.training import PairTraining, TrainingSettings

SIZES = (3, 2, 2, 2, 2, 3, 4)  # 576 images
LATENTS = 10
PAIRS = 6
METHODS: dict[str, Callable[..., GroupVAE]] = {
    "label_vae": LabelVAE,
    "ada_vae": AdaVAE,
    "hgvae": HGVAE,
    "posterior_hgvae": lambda **settings: PosteriorHGVAE(**{"objective": "joint"} | settings),
    "fixed_k": lambda **settings: FixedK(**{"shared": 4} | settings),
}
SETTINGS: dict[str, Any] = {
    "steps": 20,
    "epoch_steps": 10,
    "chunk_steps": 5,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "initial_temperature": 10.0,
    "final_temperature": 0.01,
    "annealing_steps": 12,
    "compile": False,
}


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_model(method: str = "hgvae", image_size: int = 32, seed: int = 0, **settings: Any) -> GroupVAE:
    torch.manual_seed(seed)
    return METHODS[method](**{"num_latents": LATENTS, "image_size": image_size} | settings)


def make_images(sizes: tuple[int, ...] = SIZES, image_size: int = 32) -> FactorImages:
    """Every value of a factor adds a pattern of its own, so that there is something to learn."""
    grid = FactorGrid(FACTORS, sizes)
    factors = grid.factors_of(torch.arange(grid.num_images))
    total = torch.zeros(grid.num_images, image_size, image_size, 3)
    for position, size in enumerate(sizes):
        patterns = torch.rand(size, 2, 2, 3, generator=generator(position))
        patterns = patterns.repeat_interleave(image_size // 2, 1).repeat_interleave(image_size // 2, 2)
        total += patterns[factors[:, position]] / len(sizes)
    contrasted = (3 * total - 1).clamp(0, 1)
    return FactorImages("made_up", grid, (255 * contrasted).round().to(torch.uint8))


def make_context(pairs: int, temperature: float = 0.5, seed: int = 5, hard: bool = False) -> Context:
    label = torch.randint(7, (pairs,), generator=generator(seed + 1))
    return Context(label, torch.tensor(temperature), generator(seed), hard=hard)


def make_posteriors(
    pairs: int, latents: int = LATENTS, seed: int = 7, dtype: Any = torch.float32
) -> tuple[Tensor, Tensor]:
    """Random means and log variances [2, pairs, latents]."""
    source = generator(seed)
    mean = torch.randn(2, pairs, latents, generator=source, dtype=dtype)
    return mean, torch.randn(2, pairs, latents, generator=source, dtype=dtype) - 1


class RecordedTraining(PairTraining):
    """Keeps the terms of every step."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recorded: list[list[float]] = []

    def _check(self, table: Tensor) -> None:
        self.recorded += table.tolist()
        super()._check(table)

    def term(self, name: str) -> list[float]:
        return [row[self.term_names.index(name)] for row in self.recorded]


def make_training(
    method: str = "hgvae", shared: int = 4, model: dict[str, Any] | None = None, **settings: Any
) -> RecordedTraining:
    images = make_images()
    return RecordedTraining(
        model=make_model(method, **model or {}),
        images=images,
        sampler=PairSampler(images.grid, torch.arange(images.grid.num_images), shared),
        settings=TrainingSettings(**SETTINGS | settings),
        noise_seed=5,
    )


def fit(training: PairTraining, **trainer: Any) -> pl.Trainer:
    chosen = pl.Trainer(
        max_epochs=training.settings.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    )
    chosen.fit(training, training.loader())
    return chosen


def make_views(pairs: int = PAIRS) -> Tensor:
    """[2 * pairs, 3, 32, 32], far enough apart that the posteriors differ; a few pixels are exactly 0 or 1."""
    images = 1.4 * torch.rand(2 * pairs, 3, 2, 2, generator=generator(2)) - 0.2
    return images.clamp(0, 1).repeat_interleave(16, 2).repeat_interleave(16, 3)


def lively_model(method: str = "fixed_k", **settings: Any) -> GroupVAE:
    """Biases, and heads whose outputs aren't all near 0, so that a misplaced term shows."""
    model = make_model(method, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2, generator=generator())
        model.encoder.heads.weight.mul_(5)
    return model
