"""Claims and tables of the weak supervision hold numbers against each other on the seeds that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.weak_supervision.blocks import read_blocks
from experiments.weak_supervision.imposed import preferred_table
from tests.experiments.test_weak_supervision_claims import CONSTANT, METHODS, PREFERRED, add_runs, judged


def test_an_estimate_of_noise_does_not_beat_the_best_constant(tmp_path: Path) -> None:
    """About 4.5 whatever s is, and by luck nearer to the truth in two seeds of three: 6.00, 6.09 and 6.25 of 6.25."""
    for seed, moved in enumerate((0.1, 0.06, 0.0)):
        for shared, count in ((0, 4.5 + moved), (5, 4.5 - moved / 4)):
            add_runs(tmp_path, METHODS, seeds=[seed], pairs=[shared], expected_count=10 / 7 * count)
    assert judged(tmp_path, CONSTANT).outcome == "no difference"


def test_the_best_constant_is_beaten_on_seeds_that_have_every_s(tmp_path: Path) -> None:
    """Right at both s, with seeds of which two, and then one, are common."""
    for shared, count, seeds in ((0, 10.0, (0, 1, 2)), (5, 10 / 7 * 2, (1, 2, 3))):
        add_runs(tmp_path, METHODS, seeds=seeds, pairs=[shared], expected_count=count)
    assert judged(tmp_path, CONSTANT).reason == "2 seeds are too few"
    path = tmp_path / "weak_supervision_metrics.csv"
    table = pd.read_csv(path, dtype={"changes": str})
    table[(table["shared"] == 0) | (table["seed"] == 3)].to_csv(path, index=False)
    assert judged(tmp_path, CONSTANT).reason == "no seed is common to all s"


def test_the_preferred_number_stands_beside_estimates_of_the_same_seeds(tmp_path: Path) -> None:
    """Two of four seeds have imposed runs, and an estimate of 9 for the 5 that is preferred; the others estimate 5."""
    for seed, count in enumerate((9.0, 9.0, 5.0, 5.0)):
        add_runs(tmp_path, ["posterior_hgvae"], seeds=[seed], expected_count=count)
    for seed in (0, 1):
        for count, bound in ((5.0, -1507.0), (6.0, -1507.5)):
            more: dict[str, Any] = {"changes": f"model.independent={count:g}", "expected_count": count}
            add_runs(tmp_path, ["fixed_k_joint"], seeds=[seed], joint_bound=bound, **more)
    claim = judged(tmp_path, PREFERRED)
    assert (claim.outcome, claim.measured) == ("fails", "9.00 of 10; the bound prefers 5")
    assert claim.provenance is not None and claim.provenance.seeds == (0, 1)
    [row] = preferred_table(read_blocks(tmp_path)[0]).rows
    assert row[-2:] == ["9.00", "0, 1"]
