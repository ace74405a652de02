"""Where the time of the project's step goes, data included."""

from __future__ import annotations

import pytorch_lightning as pl

from experiments.benchmark.laps import Laps
from experiments.benchmark.turns import synchronizer
from experiments.common.chunked import ChunkedTraining
from experiments.weak_supervision.benchmark.sides import ProjectSide
from experiments.weak_supervision.training import PairTraining

SAMPLING, LOADING = "pair sampling", "gathering, transfer, conversion to float"
ENCODER, CHOICE = "encoder, forward", "choice of the latents, forward"
DECODER, BACKWARD = "averages, decoder, bound, forward", "backward"
ADAM, REST = "Adam", "remainder: noise, records, checks, logger, Lightning"
DATA = (SAMPLING, LOADING)
PARTS = (*DATA, ENCODER, CHOICE, DECODER, BACKWARD, ADAM, REST)


class PairLaps(Laps):
    """Watches the parts of a step on pairs."""

    def watch(self, trainer: pl.Trainer, module: ChunkedTraining) -> None:
        assert isinstance(module, PairTraining)
        self.around(module.sampler, "sample", SAMPLING)
        self.around_items(module, "steps", LOADING)
        for method, name in (("encode", ENCODER), ("choose", CHOICE), ("bound", DECODER)):
            self.around(module.model, method, name)
        self.around(module, "manual_backward", BACKWARD)
        self.around_optimizers(trainer, ADAM)


def profile(side: ProjectSide) -> dict[str, float]:
    """Milliseconds of a step, part by part; the side is not to be used after it."""
    laps = PairLaps(synchronizer(side.settings.accelerator), REST)
    side.fit(side.settings.warm_up + side.settings.steps, laps)
    return laps.milliseconds(PARTS)


def data_share(parts: dict[str, float]) -> float:
    """Share of a step that goes into its pairs: sampling, gathering, transfer, conversion."""
    return sum(parts[name] for name in DATA) / sum(parts.values())
