"""Grids, searches and W&B sweeps over settings of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from omegaconf import OmegaConf

from experiments.axes import cell_of, changes_of
from experiments.configuration import CONFIGS, compose, resolve
from experiments.settings import build
from tests.experiments.helpers import finished_runs, run_command

ROW = "weak_supervision method=hgvae shared=3"
SWEEPS = sorted(path.stem for path in (CONFIGS / "sweep").glob("*.yaml"))
WANDB_SWEEPS = sorted((CONFIGS / "wandb_sweep").glob("*.yaml"))
GRIDS = {
    "final_temperature": [0.01, 0.1, 1.0],
    "learning_rate": [0.0001, 0.001, 0.003],  # lower, own and higher of the profile smoke
}
OWN = {"final_temperature": 0.01, "learning_rate": 0.001}


def swept(results: Path, name: str) -> dict[float, Path]:
    """The values of the setting in the finished runs and the folders of these."""
    runs = finished_runs(results)
    assert {run.row for run in runs} == {"weak_supervision/method=hgvae,shared=3"}
    return {OmegaConf.load(run.path / "config.yaml").experiment.training[name]: run.path for run in runs}


def launch_sweep(name: str, results: Path, *overrides: str) -> str:
    done = run_command(f"sweep={name}", "profile=smoke", "logger=disabled", f"results={results}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_there_are_grids_searches_and_wandb_sweeps_of_the_same_settings() -> None:
    assert sorted(GRIDS) == sorted(path.stem for path in WANDB_SWEEPS)
    assert sorted([*GRIDS, *(f"{name}_search" for name in GRIDS)]) == SWEEPS
    profile = OmegaConf.load(CONFIGS / "profile" / "smoke.yaml")
    for name, values in GRIDS.items():
        sweep = OmegaConf.merge({"profile": profile}, OmegaConf.load(CONFIGS / "sweep" / f"{name}.yaml"))
        given = sweep.hydra.sweeper.params[f"experiment.training.{name}"]
        assert [float(value) for value in given.split(",")] == values


def test_a_grid_runs_every_value_and_all_but_the_own_one_are_changes(tmp_path: Path) -> None:
    name = "learning_rate"  # whose values are the profile's
    text = launch_sweep(name, tmp_path)
    assert sorted(swept(tmp_path, name)) == GRIDS[name]
    started = {line.partition(" seed=0 starts")[0] for line in text.splitlines() if " starts " in line}
    others = [value for value in GRIDS[name] if value != OWN[name]]
    assert started == {ROW, *(f"{ROW} training.{name}={value:g}" for value in others)}


def test_a_search_goes_on_after_its_finished_trials_and_maximises_the_bound_in_training(tmp_path: Path) -> None:
    name = "learning_rate"
    launch_sweep(f"{name}_search", tmp_path, "hydra.sweeper.n_trials=1")
    first = set(swept(tmp_path, name))
    text = launch_sweep(f"{name}_search", tmp_path, "hydra.sweeper.n_trials=2")
    assert "skipped" in text
    found = swept(tmp_path, name)
    assert first < set(found) and len(found) == 2
    assert min(GRIDS[name]) <= min(found) < max(found) <= max(GRIDS[name])
    best = max(found, key=lambda value: pd.read_csv(found[value] / "history.csv")["bound"].mean())
    assert f"Best parameters: {{'experiment.training.{name}': {best}}}" in text


def test_a_trial_that_fails_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    setting = "experiment.training.final_temperature=interval(-1.5, 1.0)"
    text = launch_sweep("final_temperature_search", tmp_path, "hydra.sweeper.n_trials=2", setting)
    assert "Best parameters" in text
    failed = [line for line in text.splitlines() if line.startswith(f"  {ROW} training.final_temperature=-")]
    assert 0 < len(failed) == 2 - len(swept(tmp_path, "final_temperature"))
    assert all("experiment.training.final_temperature: " in line for line in failed)
    assert f"{len(failed)} of 2 cells failed:" in text


@pytest.mark.parametrize(
    ("setting", "message"),
    [("objective=null", "a search needs a column to go by"), ("hydra.sweeper.n_jobs=0", "must be at least 1")],
)
def test_a_search_that_can_find_nothing_is_refused_before_its_first_trial(
    setting: str, message: str, tmp_path: Path
) -> None:
    done = run_command("sweep=learning_rate_search", "profile=smoke", f"results={tmp_path}", setting)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and message in done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize("name", [f"{name}_search" for name in GRIDS])
def test_no_search_looks_at_a_test_score(name: str) -> None:
    text = (CONFIGS / "sweep" / f"{name}.yaml").read_text()
    assert OmegaConf.create(text).objective == "history.bound"  # recorded in training


def test_what_a_sweep_changes_is_kept_and_its_name_is_not() -> None:
    overrides = ["sweep=final_temperature", "experiment.training.final_temperature=0.1"]
    changes = changes_of(resolve(compose(*overrides)), overrides)
    assert {key: value for key, (value, _) in changes.items()} == {"training.final_temperature": "0.1"}


@pytest.mark.parametrize("path", WANDB_SWEEPS, ids=lambda path: path.stem)
def test_a_wandb_sweep_starts_runs_of_the_entry_point(path: Path) -> None:
    sweep = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(path.read_text().replace("${", "$!{"))))
    assert set(sweep) <= {"name", "description", "project", "program", "method", "metric", "parameters", "command"}
    assert (CONFIGS.parent / sweep["program"]).is_file()
    assert sweep["method"] in ("grid", "random", "bayes")
    assert not sweep["metric"]["name"].startswith("test/")
    command = [part.replace("$!{", "${") for part in sweep["command"]]
    assert command[:4] == ["${env}", "${interpreter}", "-m", "experiments.run"]
    assert command[-1] == "${args_no_hyphens}"
    key = f"experiment.training.{path.stem}"
    assert sweep["parameters"][key]["values"] == GRIDS[path.stem]
    for value in sweep["parameters"][key]["values"]:
        others = [f"{name}={one['values'][0]}" for name, one in sweep["parameters"].items() if name != key]
        overrides = [*command[4:-1], *others, f"{key}={json.dumps(value)}"]
        cell = cell_of(compose(*overrides), "weak_supervision", overrides)
        assert cell.row.label.startswith(ROW)
        assert cell.plain["experiment"]["training"][path.stem] == value
        assert cell.plain["logger"]["mode"] == "online"
        build(cell.plain["experiment"])
