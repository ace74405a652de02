"""What the paper reports, from results/paper.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

PAPER = Path(__file__).resolve().parents[2] / "results" / "paper.yaml"
NOT_LEGIBLE = "not legible"


def read_paper(key: str) -> dict[str, Any]:
    """Reads what one of the paper's tables shows, for example ``table_2``."""
    return cast(dict[str, dict[str, Any]], OmegaConf.to_container(OmegaConf.load(PAPER)))[key]


def paper_value(value: Sequence[float | None] | None, decimals: int) -> str:
    """Writes one of the paper's numbers, [mean, standard deviation]; null is not legible."""
    if value is None:
        return NOT_LEGIBLE
    return " ± ".join(NOT_LEGIBLE if part is None else f"{part:.{decimals}f}" for part in value)
