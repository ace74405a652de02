"""Holds every claim against a folder of collected metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.common.errors import ExperimentError
from experiments.common.left_out import read_left_out
from experiments.verdicts.clustering import clustering
from experiments.verdicts.kolmogorov_smirnov import kolmogorov_smirnov
from experiments.verdicts.rules import Measurement
from experiments.verdicts.urn import urn
from experiments.verdicts.weak_supervision import weak_supervision
from experiments.verdicts.weak_supervision_studies import weak_supervision_studies

# Room -> what measures its claims, in the order of the paper.
ROOMS: dict[str, tuple[Callable[[Path], list[Measurement]], ...]] = {
    "kolmogorov_smirnov": (kolmogorov_smirnov,),
    "urn": (urn,),
    "weak_supervision": (weak_supervision, weak_supervision_studies),
    "clustering": (clustering,),
}


def measure_by_room(metrics: Path) -> tuple[list[tuple[str, Measurement]], list[str]]:
    """Measures every claim of the rooms whose metrics are there.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Returns:
        Room and measurement in the order of the paper's sections, and what could not be measured and why.
    """
    measured: list[tuple[str, Measurement]] = []
    problems = []
    for room, functions in ROOMS.items():
        if not (metrics / f"{room}_metrics.csv").is_file():
            continue
        for function in functions:
            name = function.__name__.replace("_", " ")
            try:
                measured += [(room, one) for one in function(metrics)]
            except ExperimentError as error:
                problems.append(f"{name}: {error}")
            except KeyError as error:
                problems.append(f"{name}: the metrics have no column {error}")
    return measured, problems


def measure(metrics: Path) -> tuple[list[Measurement], list[str]]:
    """Measures every claim of all rooms.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Returns:
        The measurements, and what was left out: by the aggregator, and rooms whose files can't be read.

    Raises:
        ExperimentError: there is nothing to judge.
    """
    measured, problems = measure_by_room(metrics)
    left_out = [*read_left_out(metrics), *problems]
    if not measured:
        reason = f" ({'; '.join(left_out)})" if left_out else ""
        raise ExperimentError(f"{metrics} holds no metrics of {', '.join(ROOMS)}{reason}")
    return [one for _, one in measured], left_out
