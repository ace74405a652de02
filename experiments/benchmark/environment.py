"""Where and with what the numbers of a benchmark are made."""

from __future__ import annotations

import datetime
import os
from typing import Any

from experiments.common.reproducibility import environment_facts


def before_a_run(accelerator: str = "cpu") -> dict[str, Any]:
    """Returns code, versions, device, cores, date, and the load average as they stand before anything is measured.

    Args:
        accelerator: of the measurement; a GPU is named only where it is used.

    Returns:
        Facts by name. ``load_average`` counts the processes that wanted a core in the minute before: clearly above
        zero, the machine was not idle.
    """
    facts = {name: value for name, value in environment_facts(accelerator).items() if not name.startswith("peak")}
    return facts | {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def place(facts: dict[str, Any]) -> str:
    """The facts in a sentence or two."""
    commit = facts["commit"][:10] + (" with uncommitted changes" if facts["dirty"] else "")
    packages = facts["packages"]
    text = (
        f"{facts['device']}, {facts['cores']} cores, {facts['threads']} thread(s), torch {packages['torch']}, "
        f"Lightning {packages['pytorch-lightning']}, Python {facts['python']}, commit {commit}, {facts['date']}."
    )
    if facts["load_average"] is not None:
        text += f" Load average before the start: {facts['load_average']:.1f}."
    return text
