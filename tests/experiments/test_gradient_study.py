"""The gradient study: its exact side against independent values, and a tiny run of the whole."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import nchypergeom_fisher

from experiments.gradient_study import study
from experiments.gradient_study.estimators import collect, score_function, seeds_of_all_orders
from experiments.gradient_study.figures import read
from experiments.gradient_study.problems import (
    Problem,
    exact_gradient,
    fisher_probabilities,
    merged_gradient,
    problems,
    support,
)
from experiments.gradient_study.tables import draws_to_beat
from experiments.settings import ExperimentError
from scripts import gradient_study, pages
from tests.oracle import merged_law

# A differentiable function with the authors' call signature. Its counts are no integers: only the plumbing is tested.
STAND_IN = """
import torch

class MVHG:
    def __init__(self, device):
        pass

    def __call__(self, group_sizes, total_count, log_weights, temperature, add_noise, hard):
        shares = (log_weights + torch.rand(log_weights.shape)).softmax(-1) * total_count
        return None, [shares[:, i].reshape(-1, 1, 1) for i in range(len(group_sizes))], None, None
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "mvhg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "pt_fmvhg.py").write_text(STAND_IN)
    return package.parent


def test_two_groups_are_the_univariate_law() -> None:
    log_weights = np.log([3.0, 1.0])
    points = support((4, 6), 5)
    expected = nchypergeom_fisher(10, 4, 5, 3.0).pmf(points[:, 0])
    np.testing.assert_allclose(fisher_probabilities((4, 6), 5, log_weights), expected, rtol=1e-12)


@pytest.mark.parametrize("problem", list(problems()), ids=lambda problem: f"{problem.urn} {problem.weights}")
def test_gradients_are_the_slopes_of_expectations(problem: Problem) -> None:
    """Of the true law and, for the small urn, of the merged one: central differences of enumerated laws."""
    sizes, total, log_weights = problem.group_sizes, problem.total_count, np.log(problem.weights)
    for function in problem.functions.values():
        values, exact = function(support(sizes, total)), exact_gradient(function, problem)
        laws = [(exact.gradient, lambda shifted: fisher_probabilities(sizes, total, shifted))]
        if total == 5:
            gradient = merged_gradient(function, problem, [(2, 0, 1)])
            laws += [(gradient, lambda shifted: merged_law(total, sizes, tuple(shifted.tolist()), (2, 0, 1)).pmf)]
        for gradient, law in laws:
            steps = 1e-5 * np.eye(3)
            slopes = [(law(log_weights + step) - law(log_weights - step)) @ values / 2e-5 for step in steps]
            np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-6 * exact.scale)
        assert exact.norm > exact.floor, "the problems are chosen so that the gradient doesn't vanish"


def test_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [2 + 3 * torch.randn(1_000, 2, generator=generator, dtype=torch.float64) for _ in range(20)]
    moments = collect({"f": block} for block in blocks)["f"]
    torch.testing.assert_close(moments.mean, torch.cat(blocks).mean(0))
    assert moments.standard_deviation == pytest.approx(3 * 2**0.5, rel=0.03)
    assert moments.standard_error == pytest.approx(3 * 2**0.5 / 20_000**0.5, rel=0.5)


def test_score_function_is_unbiased() -> None:
    problem = next(iter(problems()))
    moments = collect(score_function(problem, 20, 2_000, torch.Generator().manual_seed(1)))
    for name, function in problem.functions.items():
        exact = exact_gradient(function, problem)
        error = np.linalg.norm(moments[name].mean.numpy() - exact.gradient)
        # 4 standard errors in two free dimensions: a failure rate of 1e-3 for a right estimator, and the seed is fixed.
        assert error < 4 * moments[name].standard_error


def test_a_tiny_run_is_complete_and_repeatable_and_leaves_the_global_random_states(stand_in: Path) -> None:
    settings = replace(study.Settings.quick(), blocks=2, block=50, authors_blocks=2)
    states = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    frame, again = (study.run(settings, stand_in, log=lambda _: None) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == states[1]
    pd.testing.assert_frame_equal(frame, again)
    assert len(frame) == 5 * 6 * 3  # estimators, problems, functions
    assert frame[["error", "own_law_error", "standard_error", "standard_deviation"]].gt(0).all(axis=None)
    assert np.isfinite(frame.drop(columns=["temperature", "target"]).select_dtypes("number")).all(axis=None)
    judged = frame[frame["target"].notna()]
    assert set(judged["estimator"]) == {"exact"}
    assert set(judged["reached"]) <= {"yes", "no"}
    lines = frame[frame["estimator"] == "authors"]
    assert lines["samples"].tolist() == [settings.authors_blocks * settings.authors_block] * 18


def test_authors_code_that_fails_or_is_not_there_is_one_line(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="root of a checkout"):
        gradient_study.main(["--quick", "--output", str(tmp_path), "--official", str(tmp_path)])
    code = stand_in / "mvhg" / "pt_fmvhg.py"
    code.write_text(STAND_IN.replace("shares =", "raise RuntimeError('no')\n        shares ="))
    settings = replace(study.Settings.quick(), blocks=2, block=2)
    with pytest.raises(ExperimentError, match="the authors' code failed: no"):
        study.run(settings, stand_in, log=lambda _: None)


def test_draws_to_beat_a_biased_estimator() -> None:
    biased = pd.Series({"error": 0.1, "standard_error": 0.0, "standard_deviation": 1.0})
    unbiased = pd.Series({"error": 0.0, "standard_error": 0.0, "standard_deviation": 2.0})
    assert draws_to_beat(biased, unbiased) == 300  # 0.01 + 1 / 300 = 4 / 300
    assert draws_to_beat(biased, biased) == 1
    noisy = pd.Series({"error": 0.1, "standard_error": 0.1, "standard_deviation": 1.0})
    assert draws_to_beat(noisy, unbiased) is None


def test_every_class_order_of_the_authors_code_has_a_seed() -> None:
    seeds = seeds_of_all_orders(3)
    orders = {tuple(np.random.RandomState(seed).permutation(3).tolist()) for seed in seeds}
    assert orders == set(itertools.permutations(range(3)))
    assert len(seeds) == 6


def test_figure_and_table_come_from_the_csv_alone(tmp_path: Path) -> None:
    gradient_study.main(["--quick", "--output", str(tmp_path)])
    pages.write_pages(tmp_path / "metrics", tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"gradient_study.png", "gradient_study.pdf"}
    table = (tmp_path / "tables" / "gradient_study.md").read_text()
    assert table.count("m = 20, 20, 20; n = 18 |") >= 6
    assert "nan" not in table


def test_a_study_that_is_not_there_or_damaged_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="does not exist: run `make gradient-study` first"):
        read(tmp_path)
    (tmp_path / "gradient_study.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ExperimentError, match="tables of gradient_study: the metrics have no column 'temperature'"):
        pages.write_pages(tmp_path, tmp_path)


def test_a_seed_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gradient_study.main(["--quick", "--seed=-1"])
    assert "a seed is an integer in 0..4294967295, got '-1'" in capsys.readouterr().err
