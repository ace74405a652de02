"""Holds every claim against a folder of collected metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.common.errors import ExperimentError
from experiments.common.left_out import read_left_out
from experiments.verdicts.claim import Claim
from experiments.verdicts.clustering import clustering
from experiments.verdicts.kolmogorov_smirnov import kolmogorov_smirnov
from experiments.verdicts.rules import Measurement, judge_by_rule
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


def measure(metrics: Path) -> tuple[list[Measurement], list[str]]:
    """Measures every claim of the rooms whose metrics are there.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Returns:
        The measurements, and what was left out: by the aggregator, and rooms whose files can't be read.

    Raises:
        ExperimentError: there is nothing to judge.
    """
    measured: list[Measurement] = []
    left_out = read_left_out(metrics)
    for room, functions in ROOMS.items():
        if (metrics / f"{room}_metrics.csv").is_file():
            for function in functions:
                try:
                    measured += function(metrics)
                except ExperimentError as error:
                    left_out.append(f"{function.__name__.replace('_', ' ')}: {error}")
                except KeyError as error:
                    left_out.append(f"{function.__name__.replace('_', ' ')}: the metrics have no column {error}")
    if not measured:
        reason = f" ({'; '.join(left_out)})" if left_out else ""
        raise ExperimentError(f"{metrics} holds no metrics of {', '.join(ROOMS)}{reason}")
    return measured, left_out


def judge(metrics: Path) -> list[Claim]:
    """Returns every claim with what was measured and what follows, in the order of the paper's sections.

    Args:
        metrics: Folder of the aggregator's CSVs.

    Raises:
        ExperimentError: there is nothing to judge.
    """
    return [judge_by_rule(one) for one in measure(metrics)[0]]
