"""What is measured: sizes of the images, of the batch and of a round."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.benchmark.turns import check_accelerator
from experiments.common.errors import ExperimentError
from experiments.weak_supervision.networks import IMAGE_SIZES


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark. Full by default; ``quick()`` is for a look and for the tests.

    Attributes:
        image_size: pixels a side, 64 or 32.
        batch_size: pairs per step.
        shared: s, the number of factors that the pairs share.
        steps: timed steps per side and round, a multiple of ``warm_up``.
        warm_up: steps before them in every round, one chunk of the project's training.
        rounds: how often every side has its turn.
        accelerator: ``cpu`` or ``gpu``.
        logger: ``offline`` (Weights & Biases, as in a run) or ``disabled``.
        compile: whether the compiled networks are measured.
        memory: whether every side is run once more in a process of its own, to see how much memory it takes.
        judged: whether the ratios are held against their targets: at tiny sizes only overheads are measured.

    Raises:
        ExperimentError: a setting can't be measured; the message names it.
    """

    image_size: int = 64
    batch_size: int = 64
    shared: int = 3
    steps: int = 20
    warm_up: int = 10
    rounds: int = 7
    accelerator: str = "cpu"
    logger: str = "offline"
    compile: bool = True
    memory: bool = True
    judged: bool = True

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            sizes = " or ".join(map(str, IMAGE_SIZES))
            raise ExperimentError(f"--image-size must be {sizes}, got {self.image_size}")
        for name in ("batch_size", "steps", "warm_up", "rounds"):
            if getattr(self, name) < 1:
                raise ExperimentError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.steps % self.warm_up:
            raise ExperimentError(f"--steps must be a multiple of {self.warm_up}, a chunk of steps, got {self.steps}")
        check_accelerator(self.accelerator)

    @property
    def size(self) -> str:
        """Image and batch, for titles."""
        return f"{self.image_size}x{self.image_size}, {self.batch_size} pairs"

    @classmethod
    def quick(cls, image_size: int = 32, batch_size: int = 4) -> Settings:
        """Tiny sizes, without W&B and compiler, in one process."""
        return cls(
            image_size=image_size,
            batch_size=batch_size,
            steps=2,
            warm_up=1,
            rounds=2,
            logger="disabled",
            compile=False,
            memory=False,
            judged=False,
        )
