"""The claims about the Kolmogorov-Smirnov tests and the urn by their fixed rules."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.claims.rules import judge
from experiments.claims.sampling import family_wise, rejections, urn

ORIGIN = {"changes": "", "profile": "paper", "seed": 0, "run_id": "1", "dirty": False, "seconds": 1.0}
ORIGIN |= {"commit": "123456789012", "device": "d", "torch": "2.0"}


@pytest.mark.parametrize(
    ("rejected", "rule", "verdict"),
    [
        (0, "ks_reference", "reproduced"),
        (6, "ks_reference", "close"),
        (7, "ks_reference", "not reproduced"),
        (6, "ks_law", "reproduced"),
        (7, "ks_law", "not reproduced"),
    ],
)
def test_rejections_are_judged_by_the_fixed_rule(rejected: int, rule: str, verdict: str) -> None:
    """Urns count, of which six in thirty may have a rejected group; not the groups, which depend on each other."""
    part = pd.DataFrame({"sampler": "sample", **ORIGIN}, index=range(90))
    part = part.assign(series="weights", value=part.index // 3, rejected=part.index < 3 * rejected)
    part = part.assign(ks_distance=0.01, ks_detectable=0.009, draws=50_000, experiment="kolmogorov_smirnov")
    measured = rejections(rule, part, {"where": "Figure 1", "sampler": "sample"}, "sample")
    assert measured.text.startswith(f"{3 * rejected} of 90 rejected, in {rejected} of 30 urns")
    assert judge(measured).verdict == verdict


def test_one_small_p_value_decides_the_family() -> None:
    truth = pd.DataFrame({"sampler": "sample", **ORIGIN}, index=range(99)).assign(experiment="accuracy")
    truth = truth.assign(ks_p_value=0.5, chi_square_p_value=[0.5] * 98 + [float("nan")])
    assert judge(family_wise(truth)).verdict == "holds"
    truth.loc[0, "chi_square_p_value"] = 0.009 / 197
    claim = judge(family_wise(truth))
    assert claim.verdict == "fails"
    assert claim.provenance is not None
    assert claim.provenance.source == "accuracy_metrics.csv"


def test_the_worst_data_set_of_the_urn_decides(tmp_path: Path) -> None:
    merged = {"estimator": "merged", **ORIGIN, "second_weight": 1, "rmse": 0.05, "rmse_standard_errors": 1.0}
    merged |= {"model_squared_loss": 10.1, "expected_squared_loss": 10.1, "expected_squared_loss_truth": 10.0}
    lines = [
        merged,
        merged | {"rmse": 0.2, "model_squared_loss": 11.0, "expected_squared_loss": 13.0},
        merged | {"estimator": "maximum_likelihood", "rmse": 0.01},
        # What is changed, new or of a smaller profile is not judged.
        merged | {"changes": "learning_rate=1", "rmse": 9.0},
        merged | {"estimator": "another", "rmse": 9.0},
        merged | {"profile": "quick", "rmse": 9.0},
    ]
    pd.DataFrame(lines).to_csv(tmp_path / "urn_metrics.csv", index=False)
    assert [judge(one).verdict for one in urn(tmp_path)] == [
        "close",  # the log weights
        "close",  # the loss of the merged law
        "not reproduced",  # the same weights in the exact law
        "not judged",  # ours, of exact draws, of which there is no run
        "not judged",
        "holds",
    ]
