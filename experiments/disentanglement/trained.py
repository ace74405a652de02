"""Finds the finished run of a weakly supervised model that another row starts from.

A row asks for the run by ``${trained_run:weak_supervision/hgvae_s1}``. That is the id of the run that the same command
makes of that row: the row as its file says, with this run's profile, seed and trainer. So it is part of this run's
settings, and of its own id: a model that is trained differently is scored again.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import pandas as pd
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from experiments.common.configuration import CONFIGS, resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory, readable_checkpoint

SECTIONS = ("profile", "seed", "trainer")


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


def trained_run_id(row: str, *, _root_: DictConfig) -> str:
    """Returns the id of the run that this command makes of another row.

    Args:
        row: the other row's key.
        _root_: the whole configuration, from OmegaConf.
    """
    # Within Hydra's own entry point its search path is there; composing outside of it needs one.
    hydra_is_there = GlobalHydra.instance().is_initialized()
    with nullcontext() if hydra_is_there else hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("config", [f"experiment={row}"])
    for section in SECTIONS:
        config[section] = _root_[section]
    return run_id(resolve(config), row)


def register_resolver() -> None:
    """Makes ``${trained_run:ROW}`` known to configurations."""
    OmegaConf.register_new_resolver("trained_run", trained_run_id, replace=True)


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


register_resolver()
