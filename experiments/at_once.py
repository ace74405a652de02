"""Several cells of a multirun in one process, each in a thread of it: what one run leaves of a GPU serves others.

Hydra's serial launcher hands out one cell after the other; with ``runs_at_once`` it need not wait for each to end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

ON_A_GPU = 4  # runs_at_once=auto
_POLL_SECONDS = 0.1
_threads: list[threading.Thread] = []
_setting: str | None = None


def most_at_once(plain: Mapping[str, Any]) -> int:
    """How many cells of a resolved configuration run at once in one process; 1 for a search, which learns from each."""
    if plain["objective"] is not None:
        return 1
    if plain["runs_at_once"] == "auto":
        return 1 if plain["trainer"]["accelerator"] == "cpu" else ON_A_GPU
    return int(plain["runs_at_once"])


def start(plain: Mapping[str, Any], function: Callable[..., Any], *arguments: Any) -> None:
    """Calls a function in a thread, as soon as there is room for the cell that it runs.

    Cells with other settings of the trainer or of torch's threads, which are the process's, wait for all others.
    """
    global _setting
    setting = json.dumps([plain["trainer"], plain["threads"]])
    wait(most_at_once(plain) - 1 if setting == _setting else 0)
    _setting = setting
    thread = threading.Thread(target=function, args=arguments, daemon=True)  # an interrupt waits for none
    _threads.append(thread)
    thread.start()


def wait(most: int = 0) -> None:
    """Waits until at most so many are at work."""
    while len(_threads) > most:
        _threads[0].join(_POLL_SECONDS)
        _threads[:] = [thread for thread in _threads if thread.is_alive()]
