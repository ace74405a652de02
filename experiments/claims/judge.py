"""Holds every claim against a folder of collected metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.claims.clustering import clustering
from experiments.claims.kolmogorov_smirnov import kolmogorov_smirnov
from experiments.claims.rules import Claim, Measurement, judge
from experiments.claims.urn import urn
from experiments.claims.weak_supervision import weak_supervision
from experiments.claims.weak_supervision_studies import weak_supervision_studies
from experiments.settings import ExperimentError

# Room -> what measures its claims, in the order of the paper.
ROOMS: dict[str, tuple[Callable[[Path], list[Measurement]], ...]] = {
    "kolmogorov_smirnov": (kolmogorov_smirnov,),
    "urn": (urn,),
    "weak_supervision": (weak_supervision, weak_supervision_studies),
    "clustering": (clustering,),
}


def judge_by_room(metrics: Path) -> tuple[dict[str, list[Claim]], list[str]]:
    """Judges every claim of the rooms whose metrics are there.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Returns:
        Room -> its claims, in the order of the paper's sections, and what could not be judged and why.
    """
    claims: dict[str, list[Claim]] = {}
    problems = []
    for room, functions in ROOMS.items():
        if not (metrics / f"{room}_metrics.csv").is_file():
            continue
        for measure in functions:
            name = measure.__name__.replace("_", " ")
            try:
                claims[room] = [*claims.get(room, []), *map(judge, measure(metrics))]
            except ExperimentError as error:
                problems.append(f"{name}: {error}")
            except KeyError as error:
                problems.append(f"{name}: the metrics have no column {error}")
    return claims, problems


def judge_all(metrics: Path) -> tuple[list[Claim], list[str]]:
    """Judges every claim of all rooms.

    Raises:
        ExperimentError: there is nothing to judge.
    """
    claims, problems = judge_by_room(metrics)
    if not any(claims.values()):
        reason = f" ({'; '.join(problems)})" if problems else ""
        raise ExperimentError(f"{metrics} holds no metrics of {', '.join(ROOMS)}{reason}")
    return [one for some in claims.values() for one in some], problems
