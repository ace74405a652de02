"""A claim with what was measured, and what follows for it."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.common.provenance import Provenance


@dataclass(frozen=True)
class Claim:
    """One claim of the paper (or of ours) held against the collected metrics.

    Attributes:
        key: Its key in rules.yaml, and the block of the metrics it was judged on, such as
            ``figure_2_error_s3/quick_mpi3d_sim``.
        place: Where it stands, such as "Section 5.2, Figure 2".
        claim: The claim, in our words.
        rule: What decides, in words; fixed before the numbers.
        paper: What the paper reports, or "not legible".
        measured: What was measured here, in words.
        difference: Of the two, where both are numbers; else "-".
        outcome: On what was run here: "holds", "close", "fails" or "no run".
        verdict: On the paper's claim: "reproduced", "close", "not reproduced" or "not comparable".
        reason: Why it is not comparable or not reproduced, else empty.
        provenance: Of the numbers; None where there are none.
    """

    key: str
    place: str
    claim: str
    rule: str
    paper: str
    measured: str
    difference: str
    outcome: str
    verdict: str
    reason: str
    provenance: Provenance | None
