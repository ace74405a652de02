"""Keeps credentials out of what is written: a configuration is stored, logged and uploaded as it stands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.settings import ExperimentError

_NAME = re.compile(r"(?:^|[_.-])(?:api_?key|token|password|passwd|secret|credentials?)(?:$|[_.-])", re.IGNORECASE)
# A W&B key of either kind, and the user part of a URL.
_VALUE = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])|wandb_v\d+_\w{20,}|://[^/\s:@]+:[^/\s@]+@")
_SHORTEST = 8  # characters of a variable's value that is looked for; shorter ones occur by chance


def refuse_credentials(config: Mapping[str, Any]) -> None:
    """Refuses a configuration in which a key or a value looks like a credential.

    Args:
        config: the resolved configuration.

    Raises:
        ExperimentError: it does; the message names the key and not the value.
    """
    known = {value for name, value in os.environ.items() if _NAME.search(name) and len(value) >= _SHORTEST}
    for name, value in _leaves(config):
        if value is None:
            continue
        text = str(value)
        if _NAME.search(name) or _VALUE.search(text) or any(secret in text for secret in known):
            raise ExperimentError(
                f"{name} looks like a credential, and the configuration is stored and logged: leave it out. W&B takes "
                "its key from `wandb login` or the environment variable WANDB_API_KEY"
            )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{index}]")
    else:
        yield name, value
