"""Training of the VAEs of image pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.common.checks import require_integer, require_number
from experiments.common.chunked import ChunkedTraining
from experiments.common.errors import ExperimentError
from experiments.weak_supervision.group_vae import Context, GroupVAE, Terms
from experiments.weak_supervision.images import FactorImages
from experiments.weak_supervision.pairs import Pairs, PairSampler
from experiments.weak_supervision.shard import Shard
from mvhg import ExponentialAnnealing

_BASE_TERMS = ("bound", *Terms._fields, "expected_count", "drawn_count", "temperature")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the models are trained.

    Attributes:
        steps: of Adam; a multiple of ``epoch_steps``.
        epoch_steps: steps between two checkpoints and records of the history.
        chunk_steps: steps per call of the framework, and pairs drawn at once; divides ``epoch_steps``.
        batch_size: pairs per step, over all processes.
        learning_rate: of Adam.
        initial_temperature: of both relaxations.
        final_temperature: reached after ``annealing_steps``, by an exponential (paper C.2.3).
        annealing_steps: see there.
        compile: compile encoder and decoder with ``torch.compile``.
        images_on_device: whether all images move to the device; null: where half of its free memory holds them.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    steps: int
    epoch_steps: int
    chunk_steps: int
    batch_size: int
    learning_rate: float
    initial_temperature: float
    final_temperature: float
    annealing_steps: int
    compile: bool
    images_on_device: bool | None

    def __post_init__(self) -> None:
        for name in ("steps", "epoch_steps", "chunk_steps", "batch_size", "annealing_steps"):
            require_integer(f"training.{name}", getattr(self, name), 1)
        for name in ("learning_rate", "initial_temperature", "final_temperature"):
            require_number(f"training.{name}", getattr(self, name), above=True)
        for larger, smaller in (("steps", "epoch_steps"), ("epoch_steps", "chunk_steps")):
            if getattr(self, larger) % getattr(self, smaller):
                raise ValueError(
                    f"training.{larger} must be a multiple of training.{smaller}, got {getattr(self, larger)} and "
                    f"{getattr(self, smaller)}"
                )
        if not isinstance(self.compile, bool):
            raise ValueError(f"training.compile must be true or false, got {self.compile!r}")
        if not (self.images_on_device is None or isinstance(self.images_on_device, bool)):
            raise ValueError(f"training.images_on_device must be true, false or null, got {self.images_on_device!r}")

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.steps // self.epoch_steps


class PairTraining(ChunkedTraining):
    """Maximises the bound of pairs that are drawn on the device, a chunk of steps at a time.

    With several processes each takes its part of every batch; pairs and noise are drawn for the whole batch by the same
    generator everywhere, so that the division changes nothing but rounding.

    Args:
        model: one of the methods.
        images: of the grid.
        sampler: draws the pairs.
        settings: see there.
        noise_seed: seed of everything drawn in training.
    """

    def __init__(
        self,
        *,
        model: GroupVAE,
        images: FactorImages,
        sampler: PairSampler,
        settings: TrainingSettings,
        noise_seed: int,
    ) -> None:
        super().__init__(
            steps_per_epoch=settings.epoch_steps,
            noise_seed=noise_seed,
            term_names=[*_BASE_TERMS, *model.diagnostic_names, *model.gradient_names],
        )
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pictures = images
        self.sampler = sampler
        self._pairs: Pairs | None = None  # of the chunk
        self.settings = settings
        self.annealing = ExponentialAnnealing(
            settings.initial_temperature, settings.final_temperature, settings.annealing_steps
        )
        if settings.compile:
            self.model.encoder.compile()
            self.model.decoder.compile()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        world = self.trainer.world_size
        if self.settings.batch_size % world:
            raise ExperimentError(
                f"training.batch_size {self.settings.batch_size} pairs can't be divided among {world} processes"
            )
        self.shard = Shard(self.global_rank, world)
        self.sampler = self.sampler.to(self.device)
        self.pictures = place(self.pictures, self.device, self.settings.images_on_device)

    def loader(self, world_size: int = 1) -> DataLoader[int]:
        """Loader of one epoch: the numbers of its chunks. Several processes synchronise once per call: a step each."""
        steps = self._chunk_steps(world_size)
        return DataLoader(range(self.settings.epoch_steps // steps), batch_size=None)  # type: ignore[arg-type]

    def _chunk_steps(self, world_size: int) -> int:
        return self.settings.chunk_steps if world_size == 1 else 1

    def steps(self, chunk: int) -> Iterator[tuple[Tensor, Pairs]]:
        size = self.settings.batch_size
        for _ in range(self._chunk_steps(self.trainer.world_size)):
            # Drawn for as many steps as one process takes per call, so that several draw the same.
            position = self.steps_taken % self.settings.chunk_steps
            if position == 0:
                self._pairs = self.sampler.sample(self.settings.chunk_steps * size, self.generator)
            assert self._pairs is not None
            batch = self._pairs[slice(position * size, (position + 1) * size)]
            part = Pairs(self.shard.part(batch.index, 1), self.shard.part(batch.changed), self.shard.part(batch.label))
            yield load_batch(self.pictures, part.index, self.device), part

    def step_loss(self, images: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        shape = (2, self.settings.batch_size, self.model.num_latents)
        noise = self.shard.part(torch.randn(shape, generator=self.generator, device=self.device), 1)
        temperature = torch.full((), self.annealing(self.steps_taken), device=self.device)
        context = Context(pairs.label, temperature, self.generator, self.shard)
        terms, choice = self.model(images, noise, context)
        recorded = [
            terms.reconstruction - terms.divergence,
            *terms,
            choice.expected_count.mean(),
            choice.count.mean(),
            temperature,
            *(choice.diagnostics[name] for name in self.model.diagnostic_names),
        ]
        return self.model.loss(terms, choice), torch.stack([value.detach().float() for value in recorded])

    def gradient_terms(self) -> Tensor:
        return self.model.gradient_terms()

    def step_optimizer(self) -> tuple[int, float]:
        return 0, self.settings.learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameter_groups(), lr=self.settings.learning_rate, fused=True)


def load_batch(images: FactorImages, index: Tensor, device: torch.device) -> Tensor:
    """Images [2 * pairs, 3, height, width] in [0, 1] of pairs [2, pairs], channels last in memory, on a device."""
    batch = images.gather(index.flatten().to(images.images.device)).to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float().div_(255)


def place(images: FactorImages, device: torch.device, on_device: bool | None) -> FactorImages:
    """Moves all images to a GPU, if asked to or (None) where they take at most half of its free memory."""
    if device.type == "cpu":
        return images
    size = math.prod(images.images.shape[1:]) * images.grid.num_images
    if on_device is None:
        on_device = 2 * size <= torch.cuda.mem_get_info(device)[0]
    if not on_device:
        return images
    whole = images if images.rows is None else images.to_memory()
    return FactorImages(images.name, images.grid, whole.images.to(device))
