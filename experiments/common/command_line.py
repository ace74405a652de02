"""Refuses, before Hydra starts, what Hydra would refuse with a long list or a riddle."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from experiments.common.configuration import CONFIGS, rows
from experiments.common.errors import ExperimentError

GROUPS = ("launcher", "profile", "trainer", "logger", "sweep")  # folders of configs/ with a choice each
_NAMES = re.compile(r"[\w/,]+")  # no globs, choices or ranges: Hydra expands those


def check_command_line(arguments: Sequence[str]) -> None:
    """Looks at the names of rows, launchers, profiles and the like.

    Args:
        arguments: The command line without the program's name.

    Raises:
        ExperimentError: there is no such row or choice, or the launcher isn't installed or not one of the project's.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "experiment" and _NAMES.fullmatch(value):
            for name in value.split(","):
                _check_row(name)
        elif key == "hydra/launcher":
            raise ExperimentError(f"{argument}: choose with launcher=serial, local, slurm, slurm_local or ray")
        elif key in GROUPS and _NAMES.fullmatch(value):
            _check_choices(key, value)
        if argument == "launcher=ray" and find_spec("hydra_plugins.hydra_ray_launcher") is None:
            raise ExperimentError("launcher=ray needs the extra `ray`, which is not installed: make install-ray")


def _check_choices(group: str, value: str) -> None:
    known = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    for name in value.split(","):
        if name not in known and name != "null":
            raise ExperimentError(f"{group}={name}: there is no such choice; choose from {', '.join(known)}")


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


def _check_row(name: str) -> None:
    known = rows()
    if name in known or name == "null":
        return
    near = get_close_matches(name, known, n=5) or [row for row in known if row.split("/")[0] == name.split("/")[0]]
    if near:
        raise ExperimentError(f"experiment={name}: there is no such row; near it: {', '.join(near)}")
    rooms = sorted({row.split("/")[0] for row in known})
    raise ExperimentError(f"experiment={name}: there is no such row; rooms: {', '.join(rooms)} (configs/experiment)")
