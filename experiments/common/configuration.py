"""Checks a composed configuration and derives the run id from what decides the numbers."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.common.credentials import refuse_credentials
from experiments.common.errors import ExperimentError

if TYPE_CHECKING:
    from experiments.common.context import Experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
JOB_TYPES = ("sample", "pretrain", "train", "evaluate")

# Keys of the command line that choose a row or a place, and leave the numbers alone.
_PLACES = ("results", "data_directory", "threads", "logger", "trainer")
_NEUTRAL = ("experiment", "profile", "seed", "force", "job_type", "tags", "launcher", "objective", "sweep", *_PLACES)
# Settings of an experiment that decide what is kept and when it pauses, not what comes out.
_BOOKKEEPING = ("checkpoint_every", "keep_model", "max_minutes")
# Which data a room's rows take is a choice like the profile, and a column of their tables.
_DATA = re.compile(r"profile\.\w+\.data")
# Where and how visibly a trainer runs; everything else in that section decides numbers.
_HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "enable_model_summary")


def rows() -> list[str]:
    """Returns the key of every row that can be run, the name of its file under configs/experiment."""
    folder = CONFIGS / "experiment"
    files = (path for path in folder.rglob("*.yaml") if not path.name.startswith("_"))  # _name: shared by rows
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def resolve(config: DictConfig) -> dict[str, Any]:
    """Returns the configuration as plain values after checking the keys that every run has.

    Raises:
        ExperimentError: a missing or ill-typed value.
    """
    try:
        plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise ExperimentError(f"configuration: {str(error).splitlines()[0]}") from error
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
    if not isinstance(plain.get("experiment"), dict) or "_target_" not in plain["experiment"]:
        raise ExperimentError(f"choose a row with experiment=ROOM/ROW, one of: {', '.join(rows())}")
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
            "several devices take a run each: configs/launcher/README.md"
        )


def check_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides that make a run differ from its row's definition.

    Args:
        overrides: The command line's task overrides.

    Raises:
        ExperimentError: an override adds a key that nothing reads, or removes one.
    """
    changing = []
    hardware = {f"trainer.{name}" for name in _HARDWARE}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if (override.is_add() or override.is_force_add() or override.is_delete()) and not key.startswith("trainer."):
            raise ExperimentError(
                f"{override.input_line}: keys can't be added or removed, though Hydra may advise a +; "
                "only trainer.* takes further keys; "
                "configs/config.yaml and the row's own file list what there is"
            )
        if _DATA.fullmatch(key) or key.split(".")[-1] in _BOOKKEEPING:
            continue
        if key not in _NEUTRAL and not key.startswith("logger.") and key not in hardware:
            changing.append(str(override.input_line))
    return changing


def run_id(config: Mapping[str, Any], row: str) -> str:
    """Returns twelve hex digits of the hash of what decides the numbers.

    Paths, logger, launcher, ``force`` and hardware don't enter; the row key, the profile's name, the seed, the
    experiment's settings and the trainer's do.
    """
    decisive = {
        "row": row,
        "profile": config["profile"]["name"],
        "seed": config["seed"],
        "experiment": {key: value for key, value in config["experiment"].items() if key not in _BOOKKEEPING},
        "trainer": {key: value for key, value in config["trainer"].items() if key not in _HARDWARE},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def build_experiment(section: Mapping[str, Any]) -> Experiment:
    """Instantiates ``experiment._target_`` with the section's other keys.

    Raises:
        ExperimentError: an unknown key, or a value that the experiment refuses; the message names it.
    """
    try:
        target = hydra.utils.get_class(section["_target_"])
    except (ImportError, ValueError) as error:
        raise ExperimentError(f"experiment._target_: {error}") from error
    allowed = list(inspect.signature(target).parameters)
    unknown = sorted(set(section) - set(allowed) - {"_target_"})
    if unknown:
        raise ExperimentError(f"experiment: unknown key {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    try:
        return cast("Experiment", hydra.utils.instantiate(section, _convert_="all"))
    except hydra.errors.InstantiationException as error:
        raise ExperimentError(f"experiment: {error.__cause__ or error}") from error
