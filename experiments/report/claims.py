"""The claims of the page, each with its room."""

from __future__ import annotations

from pathlib import Path

from experiments.verdicts.claim import Claim
from experiments.verdicts.judge import measure_by_room
from experiments.verdicts.rules import judge_by_rule


def claims(metrics: Path) -> tuple[list[tuple[str, Claim]], list[str]]:
    """Judges what can be judged.

    Args:
        metrics: Folder of the CSVs.

    Returns:
        Room and claim in the order of the paper, and what could not be judged and why.
    """
    measured, problems = measure_by_room(metrics)
    judged = [(room, judge_by_rule(one)) for room, one in measured]
    return judged, [f"claims of {problem}" for problem in problems]
