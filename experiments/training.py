"""Seeds, and training in chunks of steps: the framework's work per batch is paid once per chunk."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.utils.data import DataLoader

from experiments import cell_process
from experiments.captured_steps import CapturedSteps
from experiments.settings import ExperimentError
from experiments.store import TRAINED_AT, write_atomically

log = logging.getLogger("experiments")
default_generator_lock = threading.RLock()  # of torch's own, which runs that share a process have in common
STATE = "chunked_training"  # of a training, in a checkpoint
SECONDS_BETWEEN = 10.0  # two estimates of when a training will end


def derive_seed(seed: int, offset: int = 0) -> int:
    """Returns a 63-bit seed; different (seed, offset) pairs give unrelated streams."""
    return int(np.random.SeedSequence((seed, offset)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def numbers_loader(count: int) -> DataLoader[int]:
    """Loader of 0, 1, ..., count - 1, one by one; it leaves torch's own generator alone, as other loaders do not."""
    return DataLoader(range(count), batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]


def require_same_device(started_on: str, trainer: pl.Trainer) -> None:
    """Refuses to go on with a run on another device than that of its checkpoint.

    Raises:
        ExperimentError: the trainer's device is of another type.
    """
    if started_on != trainer.strategy.root_device.type:
        raise ExperimentError(
            f"this run was started on {started_on}, whose random numbers another device can't continue; go on there, "
            "or start over with force=true"
        )


def adam(parameters: Any, device: torch.device, **settings: Any) -> torch.optim.Adam:
    """Adam whose steps a CUDA graph can hold, where the parameters are on a GPU; every step sets the learning rates."""
    if device.type != "cuda":
        return torch.optim.Adam(parameters, fused=True, **settings)
    optimizer = torch.optim.Adam(parameters, fused=True, capturable=True, **settings)
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros((), device=device)  # memory that steps read, of each group its own
    return optimizer


class ChunkedTraining(pl.LightningModule):
    """Base of trainings: many steps per call, loss terms checked and averaged, noise and history in the checkpoint.

    A subclass says what the steps of a chunk are, what a step's loss and terms are, and which optimizer, learning rate
    and temperature the step takes. Nothing is read back from the device within a chunk.

    Args:
        steps_per_epoch: steps between two checkpoints, records of the history and checks of the weights.
        noise_seed: seed of everything drawn in training.
        term_names: names of the terms.
    """

    term_sums: Tensor  # [terms], over the epoch so far
    temperature: Tensor  # scalar, of the relaxations in the step that is taken
    capturable = False  # whether a step depends on its inputs, the temperature and the generator alone
    graph = False  # whether such steps are taken through a CUDA graph, on a GPU

    def __init__(self, *, steps_per_epoch: int, noise_seed: int, term_names: Sequence[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.noise_seed = noise_seed
        self.term_names = tuple(term_names)
        self.steps_per_epoch = steps_per_epoch
        self.steps_taken = 0
        self.history: list[dict[str, float]] = []  # one record per epoch
        self.generator = torch.Generator()
        self._noise_state: Tensor | None = None
        self._steps_of_epoch = 0
        self.register_buffer("term_sums", torch.zeros(len(self.term_names)), persistent=False)
        self.register_buffer("temperature", torch.ones(()), persistent=False)
        self.captured: CapturedSteps | None = None

    def steps(self, chunk: Any) -> Iterable[tuple[Any, ...]]:
        """What ``step_loss`` is called with, for every step of a chunk that the loader gave."""
        raise NotImplementedError

    def step_loss(self, *step: Any) -> tuple[Tensor, Tensor]:
        """Loss to minimise and the terms to record [terms].

        Raises:
            ValueError: a number that can't be used keeps the step from being taken; the message names it.
        """
        raise NotImplementedError

    def gradient_terms(self) -> Tensor:
        """Further terms, which follow those of ``step_loss``, from the gradients of a step."""
        return self.term_sums.new_empty(0)

    def step_optimizer(self) -> tuple[int, float]:
        """Which optimizer takes the next step, and its learning rate."""
        raise NotImplementedError

    def next_temperature(self) -> float:
        """The temperature of the next step."""
        return 1.0

    def epoch_record(self) -> dict[str, float]:
        """What the history says of an epoch beside the means of the terms."""
        return {}

    def training_step(self, chunk: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        terms: list[Tensor] = []
        for step in self.steps(chunk):
            index, learning_rate = self.step_optimizer()
            self.temperature.fill_(self.next_temperature())
            try:
                terms.append(self._take_step(optimizers[index], learning_rate, step))
            except ValueError as error:
                self._check_earlier(terms)
                raise ExperimentError(self._stopped(self.steps_taken + 1, str(error))) from error
            self.steps_taken += 1
        table = torch.stack(terms)  # [steps, terms]
        self._check(table)
        self.term_sums += table.sum(0)
        self._steps_of_epoch += len(table)
        means = dict(zip(self.term_names, table.mean(0).tolist()))
        self._log({f"train/{name}": value for name, value in means.items()})

    def _take_step(self, optimizer: LightningOptimizer, learning_rate: float, inputs: tuple[Any, ...]) -> Tensor:
        """Takes a step and returns its terms [terms]."""
        for group in optimizer.param_groups:
            rate = learning_rate * group.get("learning_rate_factor", 1)
            if not group.get("capturable"):
                group["lr"] = rate
            elif isinstance(group["lr"], Tensor) and group["lr"].device == self.device:
                group["lr"].fill_(rate)
            else:  # that of a checkpoint
                group["lr"] = torch.full((), rate, device=self.device)
        if self.captured is None:
            return self._launch(optimizer, *inputs)
        terms = self.captured(inputs)
        count = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # a replay calls no hook
        count.increment_ready()
        count.increment_completed()
        return terms

    def capture_steps(self) -> None:
        """From now on, steps are taken through a CUDA graph where that is possible."""
        lightning_optimizer = self.optimizers()
        assert isinstance(lightning_optimizer, LightningOptimizer)  # one
        optimizer = lightning_optimizer.optimizer

        def state() -> list[Tensor]:
            values = [value for of_one in optimizer.state.values() for value in of_one.values()]
            return [*self.parameters(), *(value for value in values if isinstance(value, Tensor))]

        self.captured = CapturedSteps(partial(self._launch, optimizer), state, self.generator)

    def _launch(self, optimizer: LightningOptimizer | torch.optim.Optimizer, *inputs: Any) -> Tensor:
        loss, values = self.step_loss(*inputs)
        optimizer.zero_grad()
        self.manual_backward(loss)
        terms = torch.cat([values.detach(), self.gradient_terms()])
        optimizer.step()
        return terms

    def on_train_epoch_end(self) -> None:
        # A checkpoint is written after this: one with a weight that isn't finite must not be.
        self._check_parameters()
        means = (self.term_sums / self._steps_of_epoch).tolist()
        record = {"epoch": self.current_epoch + 1, **dict(zip(self.term_names, means)), **self.epoch_record()}
        self.history.append(record)
        self._log({f"epoch/{name}": value for name, value in record.items()})
        self.term_sums.zero_()
        self._steps_of_epoch = 0

    def on_fit_start(self) -> None:
        self.generator = torch.Generator(device=self.device).manual_seed(self.noise_seed)
        if self._noise_state is not None:
            self.generator.set_state(self._noise_state)

    def on_train_start(self) -> None:
        if self.graph and self.capturable and self.device.type == "cuda":
            self.capture_steps()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE] = {
            "device": self.device.type,
            "noise_state": self.generator.get_state(),
            "steps_taken": self.steps_taken,
            "history": self.history,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint[STATE]
        require_same_device(state["device"], self.trainer)
        # Before the module is moved to its device; on_fit_start hands the state to the generator.
        self._noise_state = state["noise_state"].cpu()
        self.steps_taken = state["steps_taken"]
        self.history = state["history"]

    def _check(self, table: Tensor) -> None:
        finite = table.cpu().isfinite()
        if not finite.all():
            step, term = (int(index) for index in (~finite).nonzero()[0])
            number = self.steps_taken - len(table) + step + 1
            raise ExperimentError(self._stopped(number, f"the term {self.term_names[term]} is not finite"))

    def _check_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if not parameter.isfinite().all():
                raise ExperimentError(self._stopped(self.steps_taken, f"the parameter {name} is not finite"))

    def _check_earlier(self, terms: list[Tensor]) -> None:
        """Names the cause rather than the consequence: terms are looked at after the whole chunk."""
        if terms:
            self._check(torch.stack(terms))
        self._check_parameters()

    def _stopped(self, step: int, what: str) -> str:
        place = f"step {step} (epoch {self.current_epoch + 1})"
        return f"{place}: {what}; stopped, and the last checkpoint is kept. A lower learning rate often helps"

    def _log(self, values: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(values, step=self.steps_taken)


class EndWithProcess(pl.Callback):
    """Ends a training after a chunk, as an interrupt does, where the runs that share the process are to end."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if cell_process.stopping.is_set():
            sys.exit(1)


class RateEstimate(pl.Callback):
    """Says how long the training will take, from the rate of its first chunks; a long run is known as one at once.

    It also writes into the trainer's folder, again and again, when the training will end, for who launched many cells.

    Args:
        chunks: after how many chunks to say it; the first one is left out, since it warms up.
    """

    def __init__(self, chunks: int = 4) -> None:
        self.chunks = chunks
        self.seen = 0
        self.started = 0.0
        self.first_step = 0
        self.written = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ChunkedTraining)
        self.seen += 1
        now = time.perf_counter()
        if self.seen == 1:
            self.started, self.first_step = now, pl_module.steps_taken
        elif self.seen >= self.chunks and now - self.written >= SECONDS_BETWEEN:
            rate = (pl_module.steps_taken - self.first_step) / (now - self.started)
            assert trainer.max_epochs is not None
            left = trainer.max_epochs * pl_module.steps_per_epoch - pl_module.steps_taken
            if not self.written and left:
                log.info("  %.1f steps/s: %.1f minutes for the %d steps left", rate, left / rate / 60, left)
            self.written = now
            write_atomically(Path(trainer.default_root_dir) / TRAINED_AT, f"{time.time() + left / rate:.0f}")
