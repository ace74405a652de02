"""A row of Figure 11: the scores of a model that a weakly supervised row has trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.common.configuration import build_experiment
from experiments.common.context import RunContext
from experiments.common.errors import ExperimentError
from experiments.disentanglement.representations import GridRepresentations
from experiments.disentanglement.scores import disentanglement_scores, require_samples
from experiments.disentanglement.shims import load_metrics
from experiments.disentanglement.trained import load_trained_run
from experiments.weak_supervision.classification import downstream_accuracy
from experiments.weak_supervision.data import PairSplits
from experiments.weak_supervision.experiment import WeakSupervision
from experiments.weak_supervision.group_vae import GroupVAE
from experiments.weak_supervision.images import FactorImages
from experiments.weak_supervision.training import load_batch

log = logging.getLogger("experiments")
SCORES_STREAM, DOWNSTREAM_STREAM = range(2)  # of the run's seed
_BATCH = 256  # images encoded at a time


class DisentanglementScores:
    """Scores the posterior means of the finished run of another row, with the same profile, data and seed.

    Args:
        row: key of that row, for example ``weak_supervision/hgvae_s1``.
        trained_run: id of its run: ``${trained_run:ROW}``.
        profile: name of the profile, for the message that says how to make that run.
        data: ``source``, the images of that row; what they are stands in that row.
        num_samples: images or batches that the scores are fitted on; half as many to score on.
        dci_samples: the same for DCI alone, which takes most of the time.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        row: str,
        trained_run: str,
        profile: str,
        data: Mapping[str, str],
        num_samples: int,
        dci_samples: int,
    ) -> None:
        if set(data) != {"source"}:
            raise ValueError(f"data must hold source alone, got {', '.join(data) or 'nothing'}")
        require_samples("num_samples", num_samples)
        require_samples("dci_samples", dci_samples)
        self.row = row
        self.trained_run = trained_run
        self.profile = profile
        self.source = data["source"]
        self.num_samples = num_samples
        self.dci_samples = dci_samples

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns ``metrics``: a line per score."""
        load_metrics()  # what is missing is said before anything takes time
        # What else was set on this command line decides the id too, and must be set there as well.
        command = f"python -m experiments.run experiment={self.row} profile={self.profile} seed={context.seed}"
        trained = load_trained_run(context.run.results, self.row, self.trained_run, command)
        experiment = build_experiment(trained.experiment)
        if not isinstance(experiment, WeakSupervision):
            raise ExperimentError(f"{self.row} is no row of the weak supervision, there is no model to score")
        if experiment.data.source != self.source:
            raise ExperimentError(
                f"{self.row} was trained on {experiment.data.source}, not on data.source {self.source}"
            )
        model = experiment.model()
        model.load_state_dict(trained.state)
        splits = experiment.data.load(context.data_directory)
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
        facts = {
            "method": experiment.method,
            "shared": experiment.data.shared,
            "data": splits.images.name,
            "trained_run": self.trained_run,
        }
        return {"metrics": pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1)}

    def _downstream(self, means: Tensor, splits: PairSplits, generator: torch.Generator) -> dict[str, Any]:
        """Fits on images that the model was trained on, and scores on half as many that it has not seen."""
        train, test = (
            images[torch.randperm(len(images), generator=generator)[:number]]
            for images, number in ((splits.train.images, self.num_samples), (splits.test.images, self.num_samples // 2))
        )
        factors = splits.images.grid.factors_of
        value = downstream_accuracy(means[train], factors(train), means[test], factors(test))
        return {"score": "downstream", "value": value, "samples": len(train)}


@torch.no_grad()
def encode_all(model: GroupVAE, images: FactorImages, device: torch.device) -> Tensor:
    """Posterior means [images, latents] of a whole grid, in its order, on the CPU."""
    model = model.to(device).eval()
    index = torch.arange(images.grid.num_images)
    return torch.cat([model.encode(load_batch(images, part, device))[0].cpu() for part in index.split(_BATCH)])
