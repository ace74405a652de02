"""How a row finds the finished run of another row that it starts from."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from experiments.common.configuration import resolve, run_id
from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory
from experiments.common.trained_run import trained_run_id  # noqa: F401 - makes ${trained_run:ROW} known
from experiments.disentanglement.trained import load_trained_run
from tests.experiments.helpers import CHECKOUT, compose, environment

ROW, OTHER = "clustering/uniform_60", "clustering/hypergeometric_60"
COMMAND = "python -m experiments.run experiment=some/row"


def asked_id(*overrides: str) -> str:
    """The id of ROW's run as another row asks for it."""
    config = compose(OTHER, *overrides)
    OmegaConf.set_struct(config, False)
    config.experiment.trained = f"${{trained_run:{ROW}}}"
    return str(resolve(config)["experiment"]["trained"])


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seed=3", "profile=smoke"),
        ("profile.clustering.epochs=7", "profile.clustering.data=mnist", "trainer.precision=bf16-mixed"),
    ],
)
def test_the_id_is_that_of_the_run_which_the_same_command_makes(overrides: tuple[str, ...]) -> None:
    overrides = tuple("+" + one if one.startswith("trainer.p") else one for one in overrides)
    assert asked_id(*overrides) == run_id(resolve(compose(ROW, *overrides)), ROW)


def test_hardware_and_places_do_not_matter_and_numbers_do() -> None:
    assert asked_id("trainer=gpu", "results=elsewhere", "logger=disabled", "force=true") == asked_id()
    others = {asked_id("seed=1"), asked_id("profile=smoke"), asked_id("profile.clustering.epochs=7"), asked_id()}
    assert len(others) == 4


def test_it_is_found_within_hydras_entry_point_and_hydra_is_left_as_it_was(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import hydra
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf
        from experiments.common.configuration import CONFIGS, resolve
        import experiments.common.trained_run
        import experiments.launching

        @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
        def main(config):
            OmegaConf.set_struct(config, False)
            config.experiment.trained = "${{trained_run:{ROW}}}"
            print("found", resolve(config)["experiment"]["trained"], HydraConfig.get().runtime.choices["experiment"])

        main()
        """)
    )
    run = subprocess.run(
        [sys.executable, str(program), "-m", LAUNCHER, f"experiment={OTHER}", "seed=0,4", f"results={tmp_path}"],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("found")]
    assert found == [[asked_id(), OTHER], [asked_id("seed=4"), OTHER]]


def test_an_unknown_row_is_one_clear_line() -> None:
    config = compose(OTHER)
    OmegaConf.set_struct(config, False)
    config.experiment.trained = "${trained_run:clustering/none}"
    with pytest.raises(ExperimentError, match="Could not find 'experiment/clustering/none'") as caught:
        resolve(config)
    assert "\n" not in str(caught.value)


LAUNCHER = "hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # asks for no results


def finished_run(results: Path, weights: bool = True) -> RunDirectory:
    run = RunDirectory(results, "some/row", "0123456789ab")
    with run.claim():
        if weights:
            torch.save({"weight": torch.arange(3.0)}, run.new_model)
        run.finish(
            {"metrics": pd.DataFrame({"method": ["hgvae"]})}, {}, "experiment:\n  _target_: some.Class\n  size: 3\n"
        )
    return run


def load(results: Path) -> object:
    return load_trained_run(results, "some/row", "0123456789ab", COMMAND)


def test_a_finished_run_gives_its_settings_tables_and_weights(tmp_path: Path) -> None:
    finished_run(tmp_path)
    trained = load_trained_run(tmp_path, "some/row", "0123456789ab", COMMAND)
    assert trained.experiment == {"_target_": "some.Class", "size": 3}
    assert trained.metrics["method"].tolist() == ["hgvae"]
    assert torch.equal(trained.state["weight"], torch.arange(3.0))


def test_a_missing_run_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=f"some/row has no finished run .*0123456789ab.*first run: {COMMAND}$"):
        load(tmp_path)
    run = RunDirectory(tmp_path, "some/row", "0123456789ab")  # begun, not finished
    with run.claim():
        pass
    with pytest.raises(ExperimentError, match="no finished run"):
        load(tmp_path)


def test_a_run_without_weights_or_with_damaged_ones_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path, weights=False)
    with pytest.raises(ExperimentError, match=f"holds no model.pt.*{COMMAND} force=true$"):
        load(tmp_path)
    (run.path / "model.pt").write_bytes(b"half a file")
    with pytest.raises(ExperimentError, match=r"model.pt can't be read"):
        load(tmp_path)


def test_an_altered_table_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (run.path / "metrics.csv").write_text("method\nanother\n")
    with pytest.raises(ExperimentError, match="was changed after the run wrote it"):
        load(tmp_path)
