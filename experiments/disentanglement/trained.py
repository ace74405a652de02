"""Reads the finished run of a weakly supervised model that another row starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import Tensor

from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory, readable_checkpoint


class TrainedRun(NamedTuple):
    """What a finished run of a model holds.

    Attributes:
        experiment: the section of its configuration that built the experiment.
        metrics: its table of that name.
        state: the model's weights, on the CPU.
    """

    experiment: dict[str, Any]
    metrics: pd.DataFrame
    state: dict[str, Tensor]


def load_trained_run(results: Path, row: str, run: str, command: str) -> TrainedRun:
    """Reads a finished run.

    Args:
        results: the results folder.
        row: its row key.
        run: its id.
        command: what makes it, for the message.

    Raises:
        ExperimentError: it isn't finished, was altered, or kept no weights.
    """
    directory = RunDirectory(results, row, run)
    if directory.finished() is None:
        raise ExperimentError(f"{row} has no finished run to start from ({directory.path}); first run: {command}")
    weights = readable_checkpoint(directory.path / "model.pt")
    if weights is None:
        raise ExperimentError(f"{directory.path} holds no model.pt, the weights to start from: {command} force=true")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    config = OmegaConf.load(directory.path / "config.yaml")
    return TrainedRun(
        cast(dict[str, Any], OmegaConf.to_container(config.experiment)), directory.table("metrics"), state
    )
