"""Seconds per training step of the VAEs: methods of weak supervision, priors of the clustering, beside each other.

Every side is the training of a run, with its Lightning trainer and checkpoints. Sides take turns in one process.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from experiments import cell_process
from experiments.captured_steps import own_stream
from experiments.configuration import compose, resolve
from experiments.context import RunContext
from experiments.settings import PositiveInt, build, settings
from experiments.speed.measure import alternate
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from experiments.training import ChunkedTraining
from experiments.weak_supervision.training import PairTraining

METHODS = ("label_vae", "ada_vae", "hgvae", "posterior_hgvae")
PRIORS = ("uniform", "categorical", "hypergeometric")
ROOMS = ("weak_supervision", "clustering")
AT_ONCE = {"weak_supervision": "hgvae", "clustering": "hypergeometric"}  # what is measured several times at once
SECONDS_APART = 60.0  # trainings beside each other wait so long for one that is late


@settings
class Steps:
    """What is measured.

    Attributes:
        image_size: Pixels a side of the image pairs.
        pairs: A step of weak supervision.
        digits: A step of the clustering.
        steps: Timed per side and round.
        rounds: How often every side has its turn.
        accelerator: ``cpu`` or ``gpu``.
        graph: Whether steps are taken through a CUDA graph.
    """

    image_size: PositiveInt = 64
    pairs: PositiveInt = 64
    digits: PositiveInt = 128
    steps: PositiveInt = 20
    rounds: PositiveInt = 7
    accelerator: str = "cpu"
    graph: bool = False


TINY: dict[str, Any] = {"image_size": 32, "pairs": 4, "digits": 500, "steps": 4, "rounds": 1}  # to see that it runs


class Side(NamedTuple):
    """A training and how to feed it."""

    training: ChunkedTraining
    loader: Callable[[], Iterable[Any]]
    trainer: Mapping[str, Any]
    epochs: int
    steps_per_fit: int | None = None  # of a model that is fitted between steps


class Clock(pl.Callback):
    """Steps taken and time at the start of the last epoch and after each of its chunks.

    Args:
        together: Where trainings beside this one wait for each other: at the start of an epoch and after its first
            chunk, in which a step may be captured.
    """

    def __init__(self, together: threading.Barrier | None = None) -> None:
        self.marks: list[tuple[int, float]] = []
        self.fit_seconds = 0.0
        self.together = together

    def _mark(self, module: pl.LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # not the streams of trainings beside this one
        if self.together and len(self.marks) < 2:
            self.together.wait()
        assert isinstance(module, ChunkedTraining)
        self.marks.append((module.steps_taken, time.perf_counter()))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.marks.clear()
        self._mark(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._mark(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(pl_module, PairTraining) and pl_module.model.fit_pairs:
            start = time.perf_counter()
            pl_module.fit_model()
            if pl_module.device.type == "cuda":
                torch.cuda.current_stream().synchronize()
            self.fit_seconds = time.perf_counter() - start

    def seconds_per_step(self) -> float:
        """Of the last epoch; its first chunk warms up if there are several."""
        (first, start), (last, end) = self.marks[1 if len(self.marks) > 2 else 0], self.marks[-1]
        return (end - start) / (last - first)


def _composed(sizes: Steps, *overrides: str) -> dict[str, Any]:
    return resolve(compose(*overrides, f"trainer={sizes.accelerator}", f"trainer.graph={str(sizes.graph).lower()}"))


def pair_side(method: str, sizes: Steps) -> Side:
    """A method on pairs of mpi3d_sim that share three factors, at the temperature that annealing ends with."""
    chunk = max(1, sizes.steps // 2)
    training = {"batch_size": sizes.pairs, "steps": 300 * chunk, "epoch_steps": 3 * chunk, "chunk_steps": chunk}
    given = [f"experiment.training.{name}={value}" for name, value in training.items()]
    fitted = "fit_every_steps" in compose("experiment=weak_supervision", f"method={method}").experiment.model
    if fitted:  # not within the steps that are timed: a fit is timed apart
        given += [f"experiment.model.fit_every_steps={300 * chunk}", "experiment.training.annealing_steps=1"]
    given.append("experiment.training.initial_temperature=${experiment.training.final_temperature}")
    given.append(f"experiment.data.image_size={sizes.image_size}")
    plain = _composed(sizes, "experiment=weak_supervision", f"method={method}", "shared=3", *given)
    experiment = build(plain["experiment"])
    splits = experiment.data.load(Path(plain["data_directory"]))
    torch.manual_seed(0)
    module = PairTraining(
        model=experiment.model(),
        images=splits.images,
        sampler=splits.train,
        settings=experiment.training,
        noise_seed=0,
    )
    steps_per_fit = plain["profile"]["weak_supervision"]["fit_every_steps"] if fitted else None
    return Side(module, module.loader, plain["trainer"], 1, steps_per_fit)


def digit_side(prior: str, sizes: Steps, folder: Path) -> Side:
    """A prior on the 5,000 digits, from an untrained VaDE: a step takes as long; ``folder`` is for its files."""
    settings_of_run = f"experiment.training.batch_size={sizes.digits}", "experiment.training.max_epochs=2"
    plain = _composed(sizes, "experiment=clustering", f"prior={prior}", "version=full", *settings_of_run)
    from experiments.clustering.training import VaDETraining

    experiment = build(plain["experiment"])
    splits = experiment.data.load(Path(plain["data_directory"]), experiment.prior.num_clusters)
    vade = experiment.pretraining.vade(_context(folder, plain["trainer"]), experiment.prior.num_clusters)
    vade.prior = experiment.prior
    module = VaDETraining(
        vade=vade, splits=splits, found=splits.train_labels, settings=experiment.training, noise_seed=0
    )
    return Side(module, lambda: module.chunks(0), plain["trainer"], epochs=2)  # the first warms up


def make_side(room: str, name: str, sizes: Steps, folder: Path) -> Side:
    """The training of a method or of a prior."""
    return pair_side(name, sizes) if room == "weak_supervision" else digit_side(name, sizes, folder)


def _context(folder: Path, trainer: Mapping[str, Any]) -> RunContext:
    run = RunDirectory(folder, "speed", "run")
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    return RunContext(0, run, Tracker(None), trainer)


def turn(side: Side, folder: Path, together: threading.Barrier | None = None) -> float:
    """Seconds per step of a side's last epoch, a share of a fit included; a folder takes checkpoints; see ``Clock``."""
    clock = Clock(together)
    folder.mkdir(parents=True, exist_ok=True)
    side.training.steps_taken = 0
    with tempfile.TemporaryDirectory(dir=folder) as name, own_stream(side.trainer["accelerator"], 1):
        context = _context(Path(name), side.trainer)
        context.fit(side.training, side.loader(), max_epochs=side.epochs, callbacks=[clock])
    share_of_fit = clock.fit_seconds / side.steps_per_fit if side.steps_per_fit else 0.0
    return clock.seconds_per_step() + share_of_fit


def measure_steps(room: str, sizes: Steps) -> Iterator[dict[str, Any]]:
    """Measures the methods beside LabelVAE, or the priors beside the uniform one.

    Yields:
        A line per side with ``side``, ``size`` (pixels), ``batch``, ``seconds_per_step`` (median over the rounds),
        ``ratio`` to the first side (median of the rounds' ratios), and the lowest and highest of these.
    """
    pairs = room == "weak_supervision"
    with _measuring() as folder:
        sides = {name: make_side(room, name, sizes, folder) for name in (METHODS if pairs else PRIORS)}
        seconds = alternate({name: partial(turn, side, folder) for name, side in sides.items()}, sizes.rounds)
    size, batch = (sizes.image_size, sizes.pairs) if pairs else (28, sizes.digits)
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, first, strict=True)]
        line: dict[str, Any] = {"side": name, "size": size, "batch": batch}
        line |= {"seconds_per_step": statistics.median(values), "ratio": statistics.median(ratios)}
        yield line | {"lowest_ratio": min(ratios), "highest_ratio": max(ratios)}


def rates_at_once(room: str, sizes: Steps, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Measures a training several times at once, in threads of this process as runs that share one.

    Yields:
        A line per number with ``side``, ``at_once`` and ``steps_per_second``, of all together, the
        median of the rounds.
    """
    name = AT_ONCE[room]
    for number in numbers:
        with _measuring() as place, cell_process.sharing(number):
            folders = [place / str(one) for one in range(number)]
            sides = [make_side(room, name, sizes, folder) for folder in folders]
            rates = [sum(_train_together(sides, folders, sizes)) for _ in range(sizes.rounds)]
        yield {"side": name, "at_once": number, "steps_per_second": statistics.median(rates)}


@contextmanager
def _measuring() -> Iterator[Path]:
    """One thread of torch, and a folder for the files of trainings."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
    torch.use_deterministic_algorithms(False)  # Lightning's trainer sets it for the process


def _train_together(sides: Sequence[Side], folders: Sequence[Path], sizes: Steps) -> list[float]:
    """Steps per second of every side."""
    together = threading.Barrier(len(sides), timeout=SECONDS_APART)

    def train(side: Side, folder: Path) -> float:
        try:
            return 1 / turn(side, folder, together)
        except BaseException:
            together.abort()
            raise

    with ThreadPoolExecutor(len(sides)) as threads:
        return list(threads.map(train, sides, folders))
