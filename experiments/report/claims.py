"""The claims of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.common.provenance import Provenance, provenance_of
from experiments.verdicts.claim import Claim
from experiments.verdicts.clustering import clustering
from experiments.verdicts.kolmogorov_smirnov import kolmogorov_smirnov
from experiments.verdicts.urn import urn
from experiments.verdicts.verdict import NOT_COMPARABLE, Verdict
from experiments.verdicts.weak_supervision import weak_supervision

ROOMS: dict[str, Callable[[Path], list[Verdict]]] = {
    "kolmogorov_smirnov": kolmogorov_smirnov,
    "urn": urn,
    "weak_supervision": weak_supervision,
    "clustering": clustering,
}
OUTCOMES = {"reproduced": "holds", "close": "close", "not comparable": "no run"}


def _claim(room: str, verdict: Verdict, runs: pd.DataFrame) -> Claim:
    place, _, words = verdict.claim.partition(": ")
    ours = place.startswith("ours")
    profile = next((name for name in ("medium", "quick", "smoke") if f"profile {name}" in verdict.measured), "")
    part = runs[runs["profile"] == profile] if profile else runs
    reduced = bool(profile) and not ours
    made: Provenance | None = None if "no run" in verdict.measured else provenance_of(part, f"{room}_metrics.csv")
    return Claim(
        key=f"{room}/{verdict.claim}",
        place=place,
        claim=words,
        rule=verdict.rule,
        paper="-",
        measured=verdict.measured,
        difference="-",
        outcome=OUTCOMES.get(verdict.verdict, "fails"),
        verdict=NOT_COMPARABLE if reduced else verdict.verdict.split(":")[0],
        reason=f"profile {profile} has smaller data or a smaller budget than the paper" if reduced else "",
        provenance=made,
    )


def claims(metrics: Path) -> list[tuple[str, Claim]]:
    """Returns room and claim of everything that was judged.

    Args:
        metrics: Folder of the CSVs.
    """
    judged = []
    for room, judge in ROOMS.items():
        path = metrics / f"{room}_metrics.csv"
        if path.is_file():
            runs = pd.read_csv(path)
            judged += [(room, _claim(room, verdict, runs)) for verdict in judge(metrics)]
    return judged
