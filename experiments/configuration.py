"""The composed configuration as plain values, checked for what every run has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.credentials import refuse_credentials
from experiments.settings import ExperimentError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
JOB_TYPES = ("sample", "pretrain", "train", "evaluate")


def experiments() -> list[str]:
    """Returns the name of every experiment, a file of configs/experiment."""
    return choices("experiment")


def choices(group: str) -> list[str]:
    """Returns what a group of the configuration can be; empty if there is no such group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if path.name[0] != "_")  # _x: shared


def axes_of(experiment: str) -> list[str]:
    """Returns the axes of an experiment, as its file names them."""
    return list(OmegaConf.select(OmegaConf.load(CONFIGS / "experiment" / f"{experiment}.yaml"), "axes"))


def compose(*overrides: str) -> DictConfig:
    """Composes a configuration, within Hydra's entry point or outside of it."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("config", list(overrides))


def resolve(config: DictConfig) -> dict[str, Any]:
    """Returns the configuration as plain values after checking the keys that every run has.

    Raises:
        ExperimentError: a missing or ill-typed value.
    """
    if not OmegaConf.select(config, "experiment._target_"):
        raise ExperimentError(f"choose an experiment with experiment=NAME, one of: {', '.join(experiments())}")
    try:
        plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise ExperimentError(f"configuration: {str(error).splitlines()[0]}") from error
    plain.pop("hydra", None)  # Hydra's own, in what it composes for a sweep
    seed = plain["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ExperimentError(f"seed must be an integer of at least 0, got {seed!r}")
    threads = plain["threads"]
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ExperimentError(f"threads must be an integer of at least 1 or null, got {threads!r}")
    if not isinstance(plain["force"], bool):
        raise ExperimentError(f"force must be true or false, got {plain['force']!r}")
    if plain["job_type"] not in JOB_TYPES:
        raise ExperimentError(f"job_type must be one of {', '.join(JOB_TYPES)}, got {plain['job_type']!r}")
    _check_devices(plain["trainer"])
    refuse_credentials(plain)
    return plain


def _check_devices(trainer: Mapping[str, Any]) -> None:
    """One run is one process: Lightning would start the others from the command line, where they meet its lock."""
    devices, nodes = trainer["devices"], trainer.get("num_nodes", 1)
    several = devices != 1 if not isinstance(devices, list) else len(devices) != 1
    if several or nodes != 1:
        raise ExperimentError(
            f"a run takes one device of one machine, got trainer.devices={devices} and trainer.num_nodes={nodes}; "
            "give trainer.devices=1 or one index in brackets, trainer.devices=[1]; "
            "several devices take a run each: docs/many_machines.md"
        )
