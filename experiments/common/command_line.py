"""Refuses, before Hydra starts, what Hydra would refuse with a long list or a riddle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec

from experiments.common.configuration import rows
from experiments.common.errors import ExperimentError

_NAMES = re.compile(r"[\w/,]+")  # no globs, choices or ranges: Hydra expands those


def check_command_line(arguments: Sequence[str]) -> None:
    """Looks at the names of rows and launchers.

    Args:
        arguments: The command line without the program's name.

    Raises:
        ExperimentError: there is no such row, or the launcher isn't installed or not one of the project's.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "experiment" and _NAMES.fullmatch(value):
            for name in value.split(","):
                _check_row(name)
        elif key == "hydra/launcher":
            raise ExperimentError(f"{argument}: choose with launcher=serial, local, slurm, slurm_local or ray")
        elif argument == "launcher=ray" and find_spec("hydra_plugins.hydra_ray_launcher") is None:
            raise ExperimentError("launcher=ray needs the extra `ray`, which is not installed: make install-ray")


def _check_row(name: str) -> None:
    known = rows()
    if name in known or name == "null":
        return
    near = get_close_matches(name, known, n=5) or [row for row in known if row.split("/")[0] == name.split("/")[0]]
    if near:
        raise ExperimentError(f"experiment={name}: there is no such row; near it: {', '.join(near)}")
    rooms = sorted({row.split("/")[0] for row in known})
    raise ExperimentError(f"experiment={name}: there is no such row; rooms: {', '.join(rooms)} (configs/experiment)")
