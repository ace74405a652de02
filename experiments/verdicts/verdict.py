"""What every room's rules share: the verdict and its four words."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

REPRODUCED, CLOSE, NOT_REPRODUCED = "reproduced", "close", "not reproduced"
NOT_COMPARABLE = "not comparable"  # the numbers it needs are not there


@dataclass(frozen=True)
class Verdict:
    """One claim, what was measured and what follows."""

    claim: str
    rule: str
    measured: str
    verdict: str


def describe_source(part: pd.DataFrame) -> str:
    """Names profile and seeds of lines of one profile."""
    first, seeds = part.iloc[0], ",".join(str(seed) for seed in sorted(part["seed"].unique()))
    return f"profile {first['profile']}, seed {seeds}"
