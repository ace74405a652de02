"""The id of the finished run of a model that another row starts from.

A row asks for it by ``${trained_run:weak_supervision/hgvae_s1}``. That is the id of the run that the same command makes
of that row: the row as its file says, with this run's profile, seed and trainer. So it is part of this run's settings,
and of its own id: a model that is trained differently is scored again. Importing this module makes it known to
configurations.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from functools import cache

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from experiments.common.configuration import CONFIGS, resolve, run_id

SECTIONS = ("profile", "seed", "trainer")


@cache
def _composed(row: str) -> DictConfig:
    # Within Hydra's own entry point its search path is there; composing outside of it needs one.
    hydra_is_there = GlobalHydra.instance().is_initialized()
    with nullcontext() if hydra_is_there else hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("config", [f"experiment={row}"])


def trained_run_id(row: str, *, _root_: DictConfig) -> str:
    """Returns the id of the run that this command makes of another row.

    Args:
        row: the other row's key.
        _root_: the whole configuration, from OmegaConf.
    """
    config = copy.deepcopy(_composed(row))
    for section in SECTIONS:
        config[section] = _root_[section]
    return run_id(resolve(config), row)


OmegaConf.register_new_resolver("trained_run", trained_run_id, replace=True)
