"""Axes, changes and run ids: where a run stands, and what decides its numbers. Credentials are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import command_line, configuration
from experiments.axes import Row, run_id
from experiments.configuration import CONFIGS, axes_of, choices, experiments, refuse_credentials, resolve
from experiments.settings import ExperimentError
from tests.experiments.helpers import KS, add_config, cell, compose

HGVAE = "weak_supervision method=hgvae shared=3"
RATE = "training.learning_rate"


def identify(*overrides: str) -> str:
    return cell(KS, *overrides).run.path.name


@pytest.mark.parametrize(
    "override",
    [
        "results=elsewhere",
        "force=true",
        "logger=disabled",
        "threads=null",
        "trainer=gpu",
        "trainer.enable_progress_bar=true",
        "tags=[mine]",
        "experiment.significance=0.05",
    ],
)
def test_places_hardware_and_other_experiments_do_not_enter(override: str) -> None:
    assert identify(override) == identify()


@pytest.mark.parametrize("override", ["seed=1", "profile=smoke", "experiment.draws=10", "trainer.precision=bf16"])
def test_what_decides_the_numbers_enters(override: str) -> None:
    assert identify(override) != identify()


def test_experiment_and_axes_enter_and_a_whole_number_is_the_same_with_and_without_decimals() -> None:
    plain = cell(KS).plain
    ids = [run_id(plain, row) for row in (Row("a", {"x": 1}), Row("b", {"x": 1}), Row("a", {"x": 2}))]
    assert len(set(ids)) == 3
    whole, decimal = (cell("urn", f"experiment.temperature={number}") for number in ("2", "2.0"))
    assert whole.run.path == decimal.run.path
    assert whole.row == decimal.row


@pytest.mark.parametrize("experiment", experiments())
def test_an_experiment_names_its_axes_and_the_command_that_runs_it(experiment: str) -> None:
    composed = compose(experiment)
    assert composed.axes == axes_of(experiment)
    row = cell(experiment).row
    assert set(row.axes) <= set(axes_of(experiment))
    assert row.label == " ".join([experiment, *(f"{axis}={value}" for axis, value in row.axes.items())])
    text = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text()
    assert f"#   python -m experiments.run -m experiment={experiment}" in text


AXES = ("method", "prior", "estimator", "series", "recipe")  # those with a file for each value


@pytest.mark.parametrize(("axis", "value"), [(axis, value) for axis in AXES for value in choices(axis)])
def test_a_choice_of_an_axis_sets_the_axis(axis: str, value: str) -> None:
    having = [name for name in experiments() if axis in axes_of(name)]
    assert having
    for name in having:
        assert compose(f"{name} {axis}={value}")[axis] == value


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("profile/mine.yaml", "name: smoke\n", "mine.yaml says name: smoke for name: mine, by which its runs are"),
        ("profile/mine.yaml", "urn: {}\n", "configs/profile/mine.yaml has no name: mine"),
        ("prior/mine.yaml", "# @package _global_\nprior: uniform\n", "says prior: uniform for prior: mine"),
    ],
)
def test_a_choice_that_poses_as_another_is_refused(
    path: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_config(monkeypatch, tmp_path, path, text)
    monkeypatch.setattr(command_line, "CONFIGS", configuration.CONFIGS)
    with pytest.raises(ExperimentError, match=message):
        command_line.check_command_line(["experiment=clustering", f"{path.partition('/')[0]}=mine"])


def test_an_axis_without_meaning_is_left_out() -> None:
    assert cell("clustering prior=uniform version=80").row.axes == {
        "recipe": "n2d",
        "prior": "uniform",
        "version": 80,
    }
    merged = cell("clustering prior=hypergeometric conditionals=merged").row
    assert merged.axes == {
        "recipe": "n2d",
        "prior": "hypergeometric",
        "version": "full",
        "conditionals": "merged",
        "reading": "counts",
    }
    assert merged.folder == "clustering/recipe=n2d,prior=hypergeometric,version=full,conditionals=merged,reading=counts"


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["seed=2", "results=x", "logger.project=mine", "force=true", "trainer=gpu", "experiment.max_minutes=3"], ""),
        (["profile=smoke", "experiment.data.source=mpi3d_toy"], ""),
        (["experiment.training.final_temperature=0.01"], ""),  # its own
        (["experiment.training.final_temperature=1.0"], "training.final_temperature=1"),
        (["experiment.model.objective=joint", "experiment.model.beta=2"], "model.beta=2 model.objective=joint"),
        (["experiment.training.learning_rate=${profile.weak_supervision.higher_learning_rate}"], f"{RATE}=0.003"),
        (
            ["trainer.precision=bf16", "trainer.deterministic=false"],
            "trainer.deterministic=false trainer.precision=bf16",
        ),
    ],
)
def test_changes_are_the_settings_given_that_are_not_the_runs_own(overrides: list[str], changes: str) -> None:
    made = cell(HGVAE, *overrides)
    assert made.row.changes == changes
    assert made.row.label == " ".join([HGVAE, *([changes] if changes else [])])
    assert made.row.folder == "weak_supervision/method=hgvae,shared=3"


@pytest.mark.parametrize(
    ("row", "setting", "instead"),
    [
        (HGVAE, "profile.weak_supervision.steps=9", "give experiment.training.steps=9"),
        (HGVAE, "++profile.weak_supervision.data=mpi3d_toy", "give experiment.data.source=mpi3d_toy"),
        (HGVAE, "profile.urn.epochs=3", "nothing here reads it"),
        ("clustering recipe=n2d", "profile.clustering.vade_epochs=3", "nothing here reads it"),
        ("clustering recipe=vade", "profile.clustering.vade_epochs=3", "give experiment.training.max_epochs=3"),
        (f"{HGVAE} experiment.{RATE}=0.1", "profile.weak_supervision.hgvae_learning_rate=1", "nothing here reads it"),
    ],
)
def test_a_setting_of_the_profile_is_no_second_name_of_the_experiments(row: str, setting: str, instead: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        cell(row, setting)
    assert str(caught.value) == f"{setting}: a profile is taken as it is; {instead}"


@pytest.mark.parametrize("version", ["080", "'80'", "'8_0'", "'8e1'"])
def test_a_number_that_is_text_is_no_other_row(version: str) -> None:
    with pytest.raises(ExperimentError, match="version must be one name or integer: write 80, not .*, which is text"):
        cell("clustering", f"version={version}")


def test_an_axis_has_one_value() -> None:
    with pytest.raises(ExperimentError, match=r"sampler must be one name or integer, got \['a', 'b'\]"):
        cell("kolmogorov_smirnov sampler=[a,b]")
    with pytest.raises(ExperimentError, match="sampler must be one name or integer, got '../a'"):
        cell("kolmogorov_smirnov sampler=../a")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("threads=100000", "threads: input should be less than or equal to 4096, got 100000"),
        ("experiment.keep_model=7", "experiment.keep_model: input should be a valid boolean, got 7"),
        ("experiment.checkpoint_every=0", "experiment.checkpoint_every: input should be greater than 0, got 0"),
        ("experiment.max_minutes=-1", "experiment.max_minutes: input should be greater than 0, got -1"),
    ],
)
def test_what_decides_no_number_is_checked_before_a_finished_run_is_skipped(override: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        cell(HGVAE, override)


def test_a_trained_run_is_that_of_the_same_command() -> None:
    settings = ["experiment.model.num_latents=7", "experiment.training.steps=9"]
    for more in ([], ["seed=2"], ["profile=smoke"], settings):
        trained = cell(HGVAE, *more).run.path.name
        assert cell("disentanglement method=hgvae shared=3", *more).plain["experiment"]["trained_run"] == trained


KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "override",
    [
        f"logger.project={KEY}",
        f"tags=[figure-1,{KEY}]",
        "+trainer.api_key=short",
        "+trainer.access-token=x",
        "'data_directory=https://jane:hunter2@example.org/data'",
        "logger.project=wandb_v1_" + 30 * "A",
        "results=/home/jane/from-the-environment/results",
    ],
)
def test_what_looks_like_a_credential_is_refused_by_its_name(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    name = override.strip("'").partition("=")[0]
    with pytest.raises(ExperimentError, match="looks like a credential") as caught:
        resolve(compose(KS, override.strip("'")))
    assert name.lstrip("+") in str(caught.value)
    for secret in (KEY, "hunter2", "from-the-environment", 30 * "A"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"tokens": 3, "keyboard": "qwerty", "data": {"path": "https://example.org/a:b@c"}},
        {"password": None},
        {"commit": 41 * "a", "id": "0123456789ab", "values": [1, 2.5, True, None]},
    ],
)
def test_what_only_resembles_one_is_not(config: dict[str, object]) -> None:
    refuse_credentials(config)
