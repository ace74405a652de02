"""Grids, searches and W&B sweeps over settings of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from experiments.aggregation.runs import select_runs
from experiments.common.configuration import CONFIGS, build_experiment, check_overrides, resolve
from tests.experiments.helpers import compose, run_command

ROW = "weak_supervision/hgvae_s3"
SWEEPS = sorted(path.stem for path in (CONFIGS / "sweep").glob("*.yaml"))
WANDB_SWEEPS = sorted((CONFIGS / "wandb_sweep").glob("*.yaml"))
GRIDS = {
    "final_temperature": [0.01, 0.1, 1.0],
    "learning_rate": [0.0001, 0.001, 0.003],  # lower, own and higher of the profile smoke
}


def swept(results: Path, name: str) -> list[float]:
    """The values of the setting in the finished runs."""
    files = sorted((results / "runs" / ROW).glob("*/config.yaml"))
    assert all((file.parent / "finished.json").is_file() for file in files)
    return sorted(OmegaConf.load(file).experiment.training[name] for file in files)


def launch_sweep(name: str, results: Path, *overrides: str) -> str:
    done = run_command(f"sweep={name}", "profile=smoke", "logger=disabled", f"results={results}", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_there_are_grids_searches_and_wandb_sweeps_of_the_same_settings() -> None:
    assert sorted(GRIDS) == sorted(path.stem for path in WANDB_SWEEPS)
    assert sorted([*GRIDS, *(f"{name}_search" for name in GRIDS)]) == SWEEPS


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_runs_every_value_and_stays_out_of_the_tables(name: str, tmp_path: Path) -> None:
    launch_sweep(name, tmp_path)
    assert swept(tmp_path, name) == GRIDS[name]
    changed = len(GRIDS[name]) - 1  # one of the values is the row's own
    selection = select_runs(tmp_path, "smoke")
    assert len(selection.unwanted) == changed
    assert [cell.row for cell in selection.runs] == [ROW]


@pytest.mark.parametrize("name", GRIDS)
def test_a_search_maximises_the_bound_in_training(name: str, tmp_path: Path) -> None:
    text = launch_sweep(f"{name}_search", tmp_path, "hydra.sweeper.n_trials=2")
    values = swept(tmp_path, name)
    assert len(set(values)) == 2
    assert min(GRIDS[name]) <= values[0] < values[1] <= max(GRIDS[name])
    bounds = {}
    for folder in (tmp_path / "runs" / ROW).iterdir():
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


@pytest.mark.parametrize("name", [f"{name}_search" for name in GRIDS])
def test_no_search_looks_at_a_test_score(name: str) -> None:
    text = (CONFIGS / "sweep" / f"{name}.yaml").read_text()
    assert OmegaConf.create(text).objective == "history.bound"  # recorded in training


def test_what_a_sweep_changes_is_kept_and_its_name_is_not() -> None:
    changed = "experiment.training.final_temperature=0.1"
    assert check_overrides([changed, "sweep=final_temperature"]) == [changed]


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
    overrides = [part for part in command[4:-1] if not part.startswith("experiment=")]
    assert f"experiment={ROW}" in command
    key = f"experiment.training.{path.stem}"
    assert sweep["parameters"][key]["values"] == GRIDS[path.stem]
    for value in sweep["parameters"][key]["values"]:
        others = [f"{name}={one['values'][0]}" for name, one in sweep["parameters"].items() if name != key]
        config = resolve(compose(ROW, *overrides, *others, f"{key}={json.dumps(value)}"))
        assert config["experiment"]["training"][path.stem] == value
        assert config["logger"]["mode"] == "online"
        build_experiment(config["experiment"])
