"""Training of the VAEs of image pairs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.settings import ExperimentError, Positive, PositiveInt, Temperature, settings
from experiments.training import ChunkedTraining, adam, numbers_loader
from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import Context, GroupVAE, Terms
from mvhg import ExponentialAnnealing

_BASE_TERMS = ("bound", *Terms._fields, "expected_count", "drawn_count", "temperature")


@settings
class TrainingSettings:
    """How the models are trained.

    Attributes:
        steps: of Adam; a multiple of ``epoch_steps``.
        epoch_steps: steps between two checkpoints and records of the history.
        chunk_steps: steps per call of the framework, and pairs drawn at once; divides ``epoch_steps``.
        batch_size: pairs per step.
        learning_rate: of Adam.
        initial_temperature: of both relaxations.
        final_temperature: reached after ``annealing_steps``, by an exponential (paper C.2.3).
        annealing_steps: see there; PosteriorHGVAE's first fit comes after them.
        compile: compile the loss of a step, as one graph for all temperatures, with ``torch.compile``. Its numbers are
            drawn before it, so that HGVAE draws others by the same seed.
    """

    steps: PositiveInt
    epoch_steps: PositiveInt
    chunk_steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: Positive
    initial_temperature: Temperature
    final_temperature: Temperature
    annealing_steps: PositiveInt
    compile: bool

    def __post_init__(self) -> None:
        for larger, smaller in (("steps", "epoch_steps"), ("epoch_steps", "chunk_steps")):
            whole, part = getattr(self, larger), getattr(self, smaller)
            if whole % part:
                raise ValueError(f"{larger} must be a multiple of {smaller}, got {whole} and {part}")

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.steps // self.epoch_steps


class PairTraining(ChunkedTraining):
    """Maximises the bound of pairs that are drawn on the device, a chunk of steps at a time.

    Args:
        model: one of the methods.
        images: of the grid.
        sampler: draws the pairs.
        settings: see there.
        noise_seed: seed of everything drawn in training.
    """

    capturable = True

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
        self.images = images
        self.sampler = sampler
        self.settings = settings
        self.annealing = ExponentialAnnealing(
            settings.initial_temperature, settings.final_temperature, settings.annealing_steps
        )
        self.loss_of = torch.compile(self._loss_of, fullgraph=True) if settings.compile else self._loss_of

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.sampler = self.sampler.to(self.device)
        self.images = self.images.placed(self.device)

    def loader(self) -> DataLoader[int]:
        """Loader of one epoch: the numbers of its chunks."""
        chunks = self.settings.epoch_steps // self.settings.chunk_steps
        return numbers_loader(chunks)

    def steps(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.settings.batch_size
        pairs = self.sampler.sample(self.settings.chunk_steps * size, self.generator)
        for step in range(self.settings.chunk_steps):
            batch = pairs[slice(step * size, (step + 1) * size)]
            yield load_batch(self.images, batch.index, self.device), batch.label

    def training_step(self, chunk: int, batch_idx: int) -> None:
        super().training_step(chunk, batch_idx)
        due = self.steps_taken >= self.settings.annealing_steps and self.steps_taken % self.model.fit_every_steps == 0
        if self.model.fit_pairs and due:
            try:
                self.fit_model()
            except ValueError as error:
                raise ExperimentError(self._stopped(self.steps_taken, str(error))) from error

    @torch.no_grad()
    def fit_model(self) -> None:
        """Fits what is no weight of a network to the posteriors of some pairs."""
        pairs = self.sampler.sample(self.model.fit_pairs, self.generator)
        parts = pairs.index.split(self.settings.batch_size, dim=1)
        posteriors = [self.model.encode_pairs(load_batch(self.images, part, self.device)) for part in parts]
        mean, log_variance = (torch.cat(part, dim=1) for part in zip(*posteriors))
        with torch.autocast(self.device.type, enabled=False):
            self.model.fit(mean, log_variance, self.steps_taken / self.settings.steps)

    def step_loss(self, images: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        pairs = self.settings.batch_size
        shape = (2, pairs, self.model.num_latents)
        noise = torch.randn(shape, generator=self.generator, device=self.device)
        if not self.settings.compile:
            return self.loss_of(images, noise, Context(label, self.temperature, self.generator))
        columns = self.model.uniform_columns
        uniform = torch.rand(pairs, columns, generator=self.generator, device=self.device, dtype=torch.float64)
        return self.loss_of(images, noise, Context(label, self.temperature, None, uniform=uniform))

    def _loss_of(self, images: Tensor, noise: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        terms, choice = self.model(images, noise, context)
        averages = Terms(*(values.mean() for values in terms))
        recorded = [
            averages.reconstruction - averages.divergence,
            *averages,
            choice.expected_count.mean(),
            choice.count.mean(),
            context.temperature,
            *(choice.diagnostics[name] for name in self.model.diagnostic_names),
        ]
        return self.model.loss(terms, choice), torch.stack([value.detach().float() for value in recorded])

    def gradient_terms(self) -> Tensor:
        return self.model.gradient_terms()

    def next_temperature(self) -> float:
        return self.annealing(self.steps_taken)

    def step_optimizer(self) -> tuple[int, float]:
        return 0, self.settings.learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adam(self.model.parameter_groups(), self.device)
