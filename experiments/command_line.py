"""Refuses, before Hydra starts, what Hydra would refuse with a long list or a riddle."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from experiments.configuration import CONFIGS, axes_of, choices, experiments
from experiments.settings import ExperimentError

GROUPS = ("launcher", "profile", "trainer", "logger", "sweep")  # folders of configs/ with a choice each, and no axes
_NAMES = re.compile(r"[\w/,]+")  # no globs, choices or ranges: Hydra expands those


def check_command_line(arguments: Sequence[str]) -> None:
    """Looks at the names of experiments, axes, launchers, profiles and the like.

    Args:
        arguments: The command line without the program's name.

    Raises:
        ExperimentError: there is no such experiment or choice, an experiment lacks an axis that is given, or the
            launcher isn't installed or not one of the project's.
    """
    given = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    for key, value in given.items():
        if key == "hydra/launcher":
            raise ExperimentError(f"{key}={value}: choose with launcher=serial, local, slurm, slurm_local or ray")
        if key in GROUPS:
            _check_choices(key, value)
    if given.get("launcher") == "ray" and find_spec("hydra_plugins.hydra_ray_launcher") is None:
        raise ExperimentError("launcher=ray needs the extra `ray`, which is not installed: make install-ray")
    names = given.get("experiment", "")
    if names and not _NAMES.fullmatch(names):
        return
    chosen = [name for name in names.split(",") if name not in ("", "null")]
    _check_experiments(chosen)
    if chosen:
        _check_axes(given, chosen)
    elif not {"sweep", "--help", "--hydra-help", "--info"} & set(given):
        raise ExperimentError(f"choose an experiment with experiment=NAME, one of: {', '.join(experiments())}")


def _check_choices(group: str, value: str) -> None:
    known = choices(group)
    if value.startswith("["):
        raise ExperimentError(f"{group}={value}: a run takes one; several with commas, and -m, make several runs")
    if _NAMES.fullmatch(value):
        for name in value.split(","):
            if name not in known and name != "null":
                raise ExperimentError(f"{group}={name}: there is no such choice; choose from {', '.join(known)}")


def _check_experiments(chosen: Sequence[str]) -> None:
    known = experiments()
    commands = [_new_command(name) for name in chosen]
    if any(commands):
        raise ExperimentError(f"experiment={','.join(chosen)} is now: {'; '.join(one for one in commands if one)}")
    for name in chosen:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"near it: {', '.join(near)}" if near else f"choose from {', '.join(known)}"
            raise ExperimentError(f"experiment={name}: there is no such experiment; {hint}")


def _new_command(name: str) -> str | None:
    """The arguments that run now what a row of earlier versions was; None for a name that none had."""
    former = cast(dict[str, str], OmegaConf.to_container(OmegaConf.load(CONFIGS / "former_rows.yaml")))
    for pattern, command in former.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(command)
    return None


def _check_axes(given: Mapping[str, str], chosen: Sequence[str]) -> None:
    every = {axis for name in experiments() for axis in axes_of(name)}
    for axis in sorted(every & set(given)):
        for name in chosen:
            axes = axes_of(name)
            if axis not in axes:
                raise ExperimentError(
                    f"{axis}={given[axis]}: experiment={name} has no axis {axis}; its axes: {', '.join(axes)}"
                )
        if len(chosen) > 1 and "," not in given[axis]:  # Hydra would apply it before it knows the experiment
            raise ExperimentError(f"{axis}={given[axis]} with several experiments: give each a command of its own")
        _check_choices(axis, given[axis]) if choices(axis) else _check_meaning(axis, given, axes_of(chosen[0]))


def _check_meaning(axis: str, given: Mapping[str, str], axes: Sequence[str]) -> None:
    """Refuses an axis that belongs to some choices of another one, where another choice is given."""
    for other in set(axes) & set(given):
        has = [choice for choice in choices(other) if axis in OmegaConf.load(CONFIGS / other / f"{choice}.yaml")]
        for value in given[other].split(",") if has else []:
            if value in choices(other) and value not in has:
                raise ExperimentError(
                    f"{axis}={given[axis]}: {other}={value} has no axis {axis}; {other}={' or '.join(has)} has"
                )


def check_results_folder(arguments: Sequence[str]) -> None:
    """Sees that the results folder can be made; Hydra makes it for a multirun, and fails with a stack trace.

    Args:
        arguments: The command line without the program's name.

    Raises:
        ExperimentError: it can't.
    """
    given = [argument.removeprefix("results=") for argument in arguments if argument.startswith("results=")]
    results = Path(given[-1] if given else os.environ.get("MVHG_RESULTS_DIR", "results"))
    try:
        (results / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(
            f"the results folder {results} can't be written ({error.strerror}); choose another one with results=FOLDER "
            "or MVHG_RESULTS_DIR"
        ) from None
