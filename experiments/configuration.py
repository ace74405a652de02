"""The composed configuration as plain values, checked for what every run has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from experiments.settings import ExperimentError, Positive, PositiveInt, Seed, check, settings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# What looks like a credential: a name, or a value such as a W&B key of either kind or the user part of a URL.
_SECRET_NAME = re.compile(
    r"(?:^|[_.-])(?:api_?key|token|password|passwd|secret|credentials?)(?:$|[_.-])", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])|wandb_v\d+_\w{20,}|://[^/\s:@]+:[^/\s@]+@")
_SHORTEST_SECRET = 8  # characters of a variable's value that is looked for; shorter ones occur by chance
MOST_THREADS = 4096  # beyond, starting them fails
JobType = Literal["sample", "pretrain", "train", "evaluate"]


@settings
class Common:
    """What every run has beside its experiment; configs/config.yaml explains it."""

    seed: Seed
    threads: Annotated[int, Field(gt=0, le=MOST_THREADS)] | None
    runs_at_once: PositiveInt
    force: bool
    job_type: JobType
    objective: Annotated[str, Field(min_length=1)] | None
    tags: list[str]
    results: Annotated[str, Field(min_length=1)]
    data_directory: Annotated[str, Field(min_length=1)]


@settings
class Logger:
    """The section ``logger``."""

    mode: Literal["offline", "online", "disabled"]
    project: str
    artifacts: bool


@settings
class Bookkeeping:
    """What experiments that train have in common: what is kept, and when a run pauses. It decides no number."""

    checkpoint_every: PositiveInt = 1
    keep_model: bool = False
    max_minutes: Positive | None = None


@settings
class Trainer:
    """The section ``trainer``: where and how visibly a run computes; the experiment's own settings decide the rest."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: int | str | list[int]
    deterministic: bool | Literal["warn"]
    precision: Literal["float32", "tf32", "bf16"]
    graph: bool
    enable_progress_bar: bool

    def __post_init__(self) -> None:
        """One run is one process: Lightning would start the others from the command line, where they meet its lock."""
        if self.devices != 1 and not (isinstance(self.devices, list) and len(self.devices) == 1):
            raise ValueError(
                f"a run takes one device of one machine, got trainer.devices={self.devices}; give trainer.devices=1 or "
                "one index in brackets, trainer.devices=[1]; several devices take a run each: docs/many_machines.md"
            )
        for name, asked in (("precision=tf32", self.precision == "tf32"), ("graph=true", self.graph)):
            if asked and self.accelerator == "cpu":
                raise ValueError(f"trainer.{name} does nothing on a CPU; leave it out, or take trainer=gpu")


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
    check(Common, {field.name: plain[field.name] for field in fields(Common)})
    check(Logger, plain["logger"], "logger")
    refuse_credentials(plain)
    check(Trainer, plain["trainer"], "trainer")
    kept = {field.name for field in fields(Bookkeeping)} & plain["experiment"].keys()
    check(Bookkeeping, {name: plain["experiment"][name] for name in kept}, "experiment")
    return plain


def refuse_credentials(config: Mapping[str, Any]) -> None:
    """Refuses a configuration in which a key or a value looks like a credential.

    Raises:
        ExperimentError: it does; the message names the key and not the value.
    """
    known = {
        value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    for name, value in leaves(config):
        if value is None:
            continue
        text = str(value)
        if _SECRET_NAME.search(name) or _SECRET_VALUE.search(text) or any(secret in text for secret in known):
            raise ExperimentError(
                f"{name} looks like a credential, and the configuration is stored and logged: leave it out. W&B takes "
                "its key from `wandb login` or the environment variable WANDB_API_KEY"
            )


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the full key and the value of everything within nested mappings and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{index}]")
    else:
        yield name, value
