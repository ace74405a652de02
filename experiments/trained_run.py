"""The id of the finished run of a model that another experiment starts from.

A configuration asks for it by ``${trained_run:EXPERIMENT}``. That is the id of the run that the same command makes of
``experiment=EXPERIMENT``: with the same values of its axes, the same settings where both have them, and the same
profile, seed and trainer. So it is part of the asking run's settings, and of its own id: a model that is trained
differently is scored again. Importing this module makes it known to configurations.
"""

from __future__ import annotations

import copy

from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.axes import row_of, run_id
from experiments.configuration import axes_of, compose, resolve

SECTIONS = ("profile", "seed", "trainer")


def trained_run_id(experiment: str, *, _root_: DictConfig) -> str:
    """Returns the id of the run that this command makes of another experiment.

    Args:
        experiment: name of the other experiment.
        _root_: the whole configuration, from OmegaConf.
    """
    axes = [axis for axis in axes_of(experiment) if axis in _root_]
    config = copy.deepcopy(compose(f"experiment={experiment}", *(f"{axis}={_root_[axis]}" for axis in axes)))
    with open_dict(config):
        for section in SECTIONS:
            config[section] = _root_[section]
        for key in config.experiment:
            if key != "_target_" and key in _root_.experiment:
                config.experiment[key] = copy.deepcopy(_root_.experiment._get_node(key))
    plain = resolve(config)
    return run_id(plain, row_of(plain, experiment))


OmegaConf.register_new_resolver("trained_run", trained_run_id, replace=True)
