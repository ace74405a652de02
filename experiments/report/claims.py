"""The claims of the page, each with its room."""

from __future__ import annotations

from pathlib import Path

from experiments.common.errors import ExperimentError
from experiments.verdicts.claim import Claim
from experiments.verdicts.judge import ROOMS
from experiments.verdicts.rules import judge_by_rule


def claims(metrics: Path) -> tuple[list[tuple[str, Claim]], list[str]]:
    """Judges what can be judged.

    Args:
        metrics: Folder of the CSVs.

    Returns:
        Room and claim in the order of the paper, and what could not be judged and why.
    """
    judged: list[tuple[str, Claim]] = []
    missing = []
    for room, functions in ROOMS.items():
        if not (metrics / f"{room}_metrics.csv").is_file():
            continue
        for function in functions:
            try:
                judged += [(room, judge_by_rule(one)) for one in function(metrics)]
            except ExperimentError as error:
                missing.append(f"claims of {function.__name__.replace('_', ' ')}: {error}")
    return judged, missing
