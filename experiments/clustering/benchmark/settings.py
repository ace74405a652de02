"""What is measured: sizes of the network, of a round and of the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

PRIORS = ("categorical", "uniform", "hypergeometric")


@dataclass(frozen=True)
class Settings:
    """Sizes of the benchmark. Full by default; ``quick()`` is for a look and for the tests.

    Attributes:
        prior: over the assignments.
        widths: of the encoder, from the pixels to the latent space.
        clusters: number of components of the mixture.
        batch_size: digits per step.
        steps: timed steps per side and round; a side with S seeds takes ``steps / S`` steps of S seeds each.
        warm_up: steps before them in every round, one chunk of the project's training; its loader hands out as many.
        rounds: how often every side has its turn.
        seeds: how many models are trained at once, side by side.
        test_digits: scored at the end of an epoch.
        epoch_steps: steps of an epoch, for the share that the end of one takes: 469 are MNIST's.
        accelerator: ``cpu`` or ``gpu``.
        logger: ``offline`` (Weights & Biases, as in a run) or ``disabled``.
        compile: whether the compiled bound is measured.
        judged: whether the ratio is held against its target: at tiny sizes only overheads are measured.
    """

    prior: str = "hypergeometric"
    widths: tuple[int, ...] = (784, 500, 500, 2000, 10)
    clusters: int = 10
    batch_size: int = 128
    steps: int = 200
    warm_up: int = 50
    rounds: int = 5
    seeds: tuple[int, ...] = (1, 2, 5)
    test_digits: int = 10_000
    epoch_steps: int = 469
    accelerator: str = "cpu"
    logger: str = "offline"
    compile: bool = True
    judged: bool = True

    @classmethod
    def quick(cls, prior: str = "hypergeometric") -> Settings:
        """Tiny sizes, without W&B and compiler."""
        return cls(
            prior=prior,
            widths=(784, 16, 8, 4),
            batch_size=16,
            steps=4,
            warm_up=2,
            rounds=2,
            seeds=(1, 2),
            test_digits=50,
            logger="disabled",
            compile=False,
            judged=False,
        )
