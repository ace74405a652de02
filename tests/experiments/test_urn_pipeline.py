"""The urn's rows through the one entry point, at the smoke profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
import torch

from experiments.common.configuration import CONFIGS
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import derive_seed
from experiments.run import execute
from experiments.urn.experiment import DATA_STREAM
from experiments.urn.model import UrnModel
from experiments.urn.problem import UrnProblem
from experiments.urn.recovery import fit_each

TRAINED = ("urn/merged", "urn/exact")
CLOSED_FORM = ("urn/maximum_likelihood", "urn/squared_loss_optimum")


def run(row: str, results: Path, *overrides: str) -> dict[str, pd.DataFrame]:
    arguments = [f"experiment={row}", "profile=smoke", "logger=disabled", f"results={results}", *overrides]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose("config", arguments)
    finished = execute(config, row, arguments)
    return {path.stem: pd.read_csv(path) for path in sorted(finished.path.glob("*.csv"))}


@pytest.mark.parametrize("row", TRAINED + CLOSED_FORM)
def test_every_row_runs_and_repeats_its_numbers(row: str, tmp_path: Path) -> None:
    tables = run(row, tmp_path / "first")
    assert set(tables) == {"metrics", "weights"} | ({"history"} if row in TRAINED else set())
    assert tables["metrics"]["second_weight"].tolist() == [1, 2]
    assert tables["metrics"].notna().all(axis=None)
    # Every row has the same datasets under the same seed, and with them the same standard errors.
    problem = UrnProblem(
        group_sizes=[200, 200, 200],
        total_count=180,
        second_weights=[1, 2],
        num_datasets=2,
        num_samples=50,
        train_fraction=0.8,
    )
    splits = problem.draw(torch.Generator().manual_seed(derive_seed(0, DATA_STREAM)))
    expected = fit_each(problem, splits.train)[1].flatten()
    np.testing.assert_allclose(tables["weights"]["standard_error"], expected, rtol=1e-12)

    again = run(row, tmp_path / "again")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)


@pytest.mark.parametrize("row", TRAINED)
def test_an_interrupted_run_gives_the_numbers_of_an_uninterrupted_one(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("experiment.problem.num_samples=20", "experiment.max_epochs=3", "experiment.record_every=10")
    whole = run(row, tmp_path / "whole", *settings)

    training_step = UrnModel.training_step

    def interrupted(self: UrnModel, *arguments: Any) -> Any:
        if self.global_step == 41:  # in the third epoch, beside a record
            raise RuntimeError("killed")
        return training_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UrnModel, "training_step", interrupted)
        with pytest.raises(RuntimeError, match="killed"):
            run(row, tmp_path / "resumed", *settings)
    assert list((tmp_path / "resumed").rglob("last.ckpt"))
    steps = []

    def counted(self: UrnModel, *arguments: Any) -> Any:
        steps.append(self.global_step)
        return training_step(self, *arguments)

    monkeypatch.setattr(UrnModel, "training_step", counted)
    resumed = run(row, tmp_path / "resumed", *settings)
    assert steps == list(range(32, 48))
    for name, table in whole.items():
        pd.testing.assert_frame_equal(table, resumed[name], check_exact=True)


@pytest.mark.parametrize(
    ("row", "override", "message"),
    [
        ("urn/merged", "experiment.temperature=-0.5", "temperature must be positive"),
        ("urn/merged", "experiment.conditionals=fisher", "conditionals must be one of exact, merged"),
        ("urn/merged", "experiment.group_order=[0,1]", "group_order must be a permutation"),
        ("urn/exact", "experiment.max_epochs=0", "max_epochs must be at least 1"),
        ("urn/exact", "experiment.batch_size=0", "batch_size must be at least 1"),
        ("urn/exact", "experiment.record_every=0", "record_every must be at least 1"),
        ("urn/exact", "experiment.problem.second_weights=[]", "second_weights must hold at least one weight"),
        ("urn/squared_loss_optimum", "experiment.target=sample", "target must be one of law, data"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing_behind(
    row: str, override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentError, match=message):
        run(row, tmp_path, override)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override",
    ["experiment.group_order=random", "experiment.relaxation=soft", "experiment.problem.data_law=merged"],
)
def test_the_other_readings_of_the_paper_run(override: str, tmp_path: Path) -> None:
    assert run("urn/merged", tmp_path, override)["metrics"].notna().all(axis=None)
