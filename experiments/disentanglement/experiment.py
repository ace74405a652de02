"""A point of Figure 11: the scores of a model that experiment=weak_supervision has trained."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from experiments.axes import Row
from experiments.context import RunContext
from experiments.disentanglement.scores import MINIMUM_SAMPLES, GridRepresentations, disentanglement_scores
from experiments.disentanglement.shims import load_metrics
from experiments.settings import ExperimentError, settings
from experiments.store import RunDirectory, read_tensors
from experiments.weak_supervision.classification import downstream_accuracy
from experiments.weak_supervision.data.images import FactorImages, load_batch
from experiments.weak_supervision.data.pair_data import PairSplits
from experiments.weak_supervision.experiment import WeakSupervision
from experiments.weak_supervision.group_vae import GroupVAE

log = logging.getLogger("experiments")
SCORES_STREAM, DOWNSTREAM_STREAM = range(2)  # of the run's seed
TRAINED = "weak_supervision"  # the experiment that trains the models
_BATCH = 256  # images encoded at a time
Samples = Annotated[int, Field(ge=MINIMUM_SAMPLES)]


@settings
class DisentanglementScores(WeakSupervision):
    """Scores the posterior means of the finished run with the same axes, settings, profile, data and seed.

    Attributes:
        trained_run: id of that run: ``${trained_run:weak_supervision}``. The settings of ``WeakSupervision`` are its.
        num_samples: images or batches that the scores are fitted on; half as many to score on.
        dci_samples: the same for DCI alone, which takes most of the time.
    """

    headline_metrics = {}  # noqa: RUF012

    trained_run: str
    num_samples: Samples
    dci_samples: Samples

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``: a line per score."""
        load_metrics()  # what is missing is said before anything takes time
        model = self.model()
        model.load_state_dict(self._weights(context))
        splits = self.data.load(context.data_directory)
        log.info("  encodes %d images", splits.images.grid.num_images)
        means = encode_all(model, splits.images, context.trainer(max_epochs=0).strategy.root_device)
        table = disentanglement_scores(
            GridRepresentations(splits.images.grid, means),
            seed=context.generator(SCORES_STREAM).initial_seed(),
            num_samples=self.num_samples,
            dci_samples=self.dci_samples,
        )
        table.loc[len(table)] = self._downstream(means, splits, context.generator(DOWNSTREAM_STREAM))
        context.log_summary({f"scores/{line.score}": line.value for line in table.itertuples()})
        table.insert(0, "trained_run", self.trained_run)
        return {"metrics": table}

    def _weights(self, context: RunContext) -> dict[str, Tensor]:
        """The weights of the trained model, on the CPU.

        Raises:
            ExperimentError: its run isn't finished, was altered, or kept no weights.
        """
        row = Row(TRAINED, context.axes)
        directory = RunDirectory(context.run.results, row.folder, self.trained_run)
        # What else was set on this command line decides the id too, and must be set there as well.
        command = f"python -m experiments.run experiment={row.label} seed={context.seed}, with this command's profile"
        if directory.finished() is None:
            raise ExperimentError(
                f"{row.label} has no finished run to start from ({directory.path}); first run: {command} and settings"
            )
        if not directory.model.exists():
            raise ExperimentError(
                f"{directory.path} holds no model.pt, the weights to start from: {command}, force=true"
            )
        try:
            return read_tensors(directory.model)
        except ValueError as error:
            raise ExperimentError(f"{directory.model} can't be read ({error}): {command}, force=true") from error

    def _downstream(self, means: Tensor, splits: PairSplits, generator: torch.Generator) -> dict[str, Any]:
        """Fits on images that the model was trained on, and scores on half as many that it has not seen."""
        train, test = (
            images[torch.randperm(len(images), generator=generator)[:number]]
            for images, number in ((splits.train.images, self.num_samples), (splits.test.images, self.num_samples // 2))
        )
        grid = splits.images.grid
        value = downstream_accuracy(
            grid.names, means[train], grid.factors_of(train), means[test], grid.factors_of(test)
        )
        return {"score": "downstream", "value": value, "samples": len(train)}


@torch.no_grad()
def encode_all(model: GroupVAE, images: FactorImages, device: torch.device) -> Tensor:
    """Posterior means [images, latents] of a whole grid, in its order, on the CPU."""
    model = model.to(device).eval()
    index = torch.arange(images.grid.num_images)
    return torch.cat([model.encode(load_batch(images, part, device))[0].cpu() for part in index.split(_BATCH)])
