"""Table 1 where the first s factors are the shared ones, and which pairing is nearer to the paper's legible line.

That the paper's pairs were made so is our inference from its numbers (docs/weak_supervision.md), not something it says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.settings import ExperimentError
from experiments.tables import Table
from experiments.weak_supervision.blocks import Block
from experiments.weak_supervision.table_1 import table_1

CHANGE = "data.pairing=fixed_set"


def fixed_set_block(block: Block) -> Block:
    """The runs of a block's profile and data with the first s factors shared; of s = 0, where none is, its own.

    Raises:
        ExperimentError: there are none.
    """
    runs = block.table("metrics", changes=True)
    fixed = (runs["changes"] == CHANGE) & (runs["shared"] != 0)
    if not fixed.any():
        raise ExperimentError(f"the metrics hold no run with {CHANGE} at {block.source}")
    nothing_shared = (runs["changes"] == "") & (runs["shared"] == 0) & runs["method"].isin(runs.loc[fixed, "method"])
    return replace(block, metrics=runs[fixed | nothing_shared])


def fixed_set_table(block: Block, paper: Mapping[str, Any]) -> Table:
    """Table 1 of such runs."""
    fixed = fixed_set_block(block)
    return replace(table_1(fixed, paper), title=f"Table 1 where the first s factors are shared, on {block.source}")


def agreement(block: Block, paper: Mapping[str, Any]) -> str:
    """HGVAE's cells beside the paper's legible line, for both pairings: Pearson's correlation over the cells."""
    found, fixed = [], fixed_set_block(block)
    for words, one in (("random sets", block), ("the first s factors", fixed)):
        pairs = []
        for shared, parts in paper["hgvae"].items():
            runs = one.runs("hgvae", shared)
            runs = runs[runs["seed"].isin(fixed.runs("hgvae", shared)["seed"])]  # there are more of random sets
            pairs += [(runs[f"{part}_accuracy"].mean(), mean) for part, (mean, _) in parts.items()]
        ours, theirs = np.array([pair for pair in pairs if not math.isnan(pair[0])]).reshape(-1, 2).T
        if len(ours) > 2:
            found.append(f"{np.corrcoef(ours, theirs)[0, 1]:+.2f} over {len(ours)} cells with {words} shared")
    return f"Correlation of HGVAE's means with the paper's legible line: {'; '.join(found) or 'too few cells'}.\n"
