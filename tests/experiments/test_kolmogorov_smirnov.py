"""The sampling pipeline, and that the experiment sees what it must see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from experiments.common.context import RunContext
from experiments.common.store import RunDirectory
from experiments.common.tracking import Tracker
from experiments.kolmogorov_smirnov.experiment import KolmogorovSmirnovExperiment
from experiments.kolmogorov_smirnov.model import CountHistogram, DrawDataModule
from experiments.kolmogorov_smirnov.settings import expand_all
from tests.experiments.helpers import launch

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


def test_the_histogram_counts_and_adds_up() -> None:
    draws = torch.tensor([[0, 3], [1, 2], [1, 2]])
    whole, first, second = (CountHistogram(urns=2, groups=2, max_count=3) for _ in range(3))
    whole.update(1, draws)
    first.update(1, draws[:1])
    second.update(1, draws[1:])
    assert whole.compute().tolist() == [[[0] * 4, [0] * 4], [[1, 2, 0, 0], [0, 0, 2, 1]]]
    assert torch.equal(whole.compute(), first.compute() + second.compute())


def test_the_work_covers_every_urn_with_the_right_number_of_draws() -> None:
    assert DrawDataModule([0, 2], draws=25, batch_size=10).work == [(0, 10), (0, 10), (0, 5), (2, 10), (2, 10), (2, 5)]
    assert DrawDataModule([1], draws=5, batch_size=10).work == [(1, 5)]


def test_a_series_varies_what_it_says() -> None:
    base = {"total_count": 5, "group_sizes": [3, 5, 4], "weights": [1, 1, 1]}
    series = {
        "a": base | {"parameter": "weight", "values": [2, 7]},
        "b": base | {"parameter": "total_count", "values": [6]},
        "c": base | {"parameter": "group_size", "values": [9], "varied_group": 2},
    }
    settings = expand_all(series, None)
    assert [setting.weights for setting in settings[:2]] == [(1, 2, 1), (1, 7, 1)]
    assert settings[2].total_count == 6
    assert settings[3].group_sizes == (3, 5, 9)
    assert len(expand_all(series, 1)) == 3
    with pytest.raises(ValueError, match="series.a: .*colour"):
        expand_all({"a": base | {"parameter": "weight", "values": [1], "colour": 2}}, None)


def small(tmp_path: Path, **settings: object) -> pd.DataFrame:
    """The metrics of a small urn with strongly different weights."""
    arguments = {
        "series": {
            "weights": {
                "parameter": "weight",
                "values": [8],
                "total_count": 12,
                "group_sizes": [10, 10, 10],
                "weights": [1, 1, 1],
            }
        },
        "conditionals": "exact",
        "sampler": "sample",
        "references": ["exact", "merged"],
        "draws": 20_000,
        "batch_size": 6_000,
        "temperature": 0.5,
        "dtype": "float32",
        "significance": 0.05,
        "max_settings": None,
        "histograms": True,
    }
    run = RunDirectory(tmp_path, "room/row", "id")
    with run.claim():
        context = RunContext(0, run, Tracker(None), CPU)
        tables = KolmogorovSmirnovExperiment(**(arguments | settings)).run(context)  # type: ignore[arg-type]
    assert tables["histograms"]["drawn"].sum() == 3 * 20_000
    return tables["metrics"]


@pytest.mark.parametrize("sampler", ["sample", "straight_through"])
@pytest.mark.parametrize("conditionals", ["exact", "merged"])
def test_each_sampler_agrees_with_its_own_reference_and_not_with_the_other(
    sampler: str, conditionals: str, tmp_path: Path
) -> None:
    """Failure rate about 1e-4 per sampler; the other reference is many detectable distances away."""
    metrics = small(tmp_path, sampler=sampler, conditionals=conditionals).set_index(["reference", "group"])
    own, other = metrics.loc[conditionals], metrics.loc["merged" if conditionals == "exact" else "exact"]
    assert (own["ks_p_value"] > 1e-5).all()
    assert (own["chi_square_p_value"] > 1e-5).all()
    assert other["rejected"].all()
    assert (other["ks_distance"] > 3 * other["ks_detectable"]).all()


def test_p_values_are_corrected_over_the_groups_of_an_urn(tmp_path: Path) -> None:
    """Benjamini-Hochberg written out: p_(i) * 3 / i, then the smallest from the right."""
    run = launch("kolmogorov_smirnov/weights_exact_sample", tmp_path)
    for _, part in run.table("metrics").groupby(["value", "reference"]):
        raw = part["ks_p_value"].to_numpy()
        order = np.argsort(raw)
        scaled = raw[order] * 3 / np.array([1, 2, 3])
        expected = np.empty(3)
        expected[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
        np.testing.assert_allclose(part["ks_p_corrected"], expected, rtol=1e-12)
        np.testing.assert_allclose(expected, stats.false_discovery_control(raw), rtol=1e-12)
        assert (part["rejected"] == (part["ks_p_corrected"] <= 0.05)).all()


def test_draws_off_the_support_are_an_error_not_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mvhg

    def wrong(self: mvhg.MultivariateHypergeometric, shape: tuple[int], generator: torch.Generator) -> torch.Tensor:
        return torch.full((*shape, 3), 5.0)

    monkeypatch.setattr(mvhg.MultivariateHypergeometric, "sample", wrong)
    with pytest.raises(RuntimeError, match="left the support"):
        small(tmp_path)
