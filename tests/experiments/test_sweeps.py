"""Grids, searches and W&B sweeps over settings of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

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


def swept(results: Path, name: str) -> list[float]:
    """The values of the setting in the finished runs."""
    runs = finished_runs(results)
    assert {run.row for run in runs} == {"weak_supervision/method=hgvae,shared=3"}
    return sorted(OmegaConf.load(run.path / "config.yaml").experiment.training[name] for run in runs)


def launch_sweep(name: str, results: Path, *overrides: str) -> str:
    done = run_command(f"sweep={name}", "profile=smoke", "logger=disabled", f"results={results}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_there_are_grids_searches_and_wandb_sweeps_of_the_same_settings() -> None:
    assert sorted(GRIDS) == sorted(path.stem for path in WANDB_SWEEPS)
    assert sorted([*GRIDS, *(f"{name}_search" for name in GRIDS)]) == SWEEPS


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_runs_every_value_and_all_but_the_own_one_are_changes(name: str, tmp_path: Path) -> None:
    text = launch_sweep(name, tmp_path)
    assert swept(tmp_path, name) == GRIDS[name]
    started = {line.partition(" seed=0 starts")[0] for line in text.splitlines() if " starts " in line}
    others = [value for value in GRIDS[name] if value != OWN[name]]
    assert started == {ROW, *(f"{ROW} training.{name}={value:g}" for value in others)}


def test_a_search_maximises_the_bound_in_training(tmp_path: Path) -> None:
    name = "learning_rate"
    text = launch_sweep(f"{name}_search", tmp_path, "hydra.sweeper.n_trials=2")
    values = swept(tmp_path, name)
    assert len(set(values)) == 2
    assert min(GRIDS[name]) <= values[0] < values[1] <= max(GRIDS[name])
    bounds = {}
    for folder in (run.path for run in finished_runs(tmp_path)):
        lines = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
        column = lines[0].index("bound")
        mean = sum(float(line[column]) for line in lines[1:]) / len(lines[1:])
        bounds[OmegaConf.load(folder / "config.yaml").experiment.training[name]] = mean
    best = max(bounds, key=lambda value: bounds[value])
    assert f"Best parameters: {{'experiment.training.{name}': {best}}}" in text


def test_the_same_search_passes_its_finished_trials_and_goes_on(tmp_path: Path) -> None:
    launch_sweep("final_temperature_search", tmp_path, "hydra.sweeper.n_trials=1")
    first = swept(tmp_path, "final_temperature")
    text = launch_sweep("final_temperature_search", tmp_path, "hydra.sweeper.n_trials=2")
    assert "skipped" in text
    assert len(swept(tmp_path, "final_temperature")) == 2
    assert set(first) < set(swept(tmp_path, "final_temperature"))


def test_a_trial_that_fails_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    setting = "experiment.training.final_temperature=interval(-1.5, 1.0)"
    text = launch_sweep("final_temperature_search", tmp_path, "hydra.sweeper.n_trials=2", setting)
    assert "Best parameters" in text
    failed = [line for line in text.splitlines() if line.startswith(f"  {ROW} training.final_temperature=-")]
    assert 0 < len(failed) == 2 - len(swept(tmp_path, "final_temperature"))
    assert all("experiment.training.final_temperature: " in line for line in failed)
    assert f"{len(failed)} of 2 cells failed:" in text


@pytest.mark.parametrize("name", [f"{name}_search" for name in GRIDS])
def test_no_search_looks_at_a_test_score(name: str) -> None:
    text = (CONFIGS / "sweep" / f"{name}.yaml").read_text()
    assert OmegaConf.create(text).objective == "history.bound"  # recorded in training


def test_what_a_sweep_changes_is_kept_and_its_name_is_not() -> None:
    overrides = ["sweep=final_temperature", "experiment.training.final_temperature=0.1"]
    assert changes_of(resolve(compose(*overrides)), overrides) == "training.final_temperature=0.1"


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
