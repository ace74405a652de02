"""W&B offline: no account, and what was logged can be read back from the file."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

import pytest
import wandb

from experiments.configuration import JobType, axes_of, experiments
from experiments.settings import ExperimentError
from experiments.tracking import Tracker, runs_to_sync, track, tracked_config
from tests.experiments.helpers import CHECKOUT, KS, cell, launch
from tests.experiments.wandb_files import history, inspect, records, the_file

KEY = "0123456789abcdef0123456789abcdef01234567"


pytestmark = pytest.mark.usefixtures("no_account")


def test_the_offline_file_holds_the_logged_history(tmp_path: Path) -> None:
    run = launch(KS, tmp_path, "logger=offline")
    file = the_file(tmp_path)
    assert file.name == f"run-{run.path.name}.wandb"

    metrics = run.table("metrics")
    expected = metrics[(metrics["reference"] == "exact") & (metrics["group"] == 2)]["ks_distance"].tolist()
    text = json.dumps(history(file))
    assert len(expected) == 2
    for distance in expected:
        assert f"{distance}" in text

    [started] = [record["run"] for record in records(file) if record["type"] == "run"]
    assert started["run_group"] == KS
    assert started["job_type"] == "sample"
    assert started["run_id"] == run.path.name
    assert started["project"] == "mvhg"
    assert {"figure-1", "section-5.1"} <= set(started["tags"])
    assert started["display_name"] == f"{KS} seed=0"
    summary = json.loads(inspect(file, "--summary"))
    assert summary["config"]["experiment"]["sampler"] == "sample"
    columns = {"experiment_name": "kolmogorov_smirnov", "series": "weights", "conditionals": "exact", "changes": ""}
    assert columns.items() <= summary["config"].items()
    assert "exact/largest_ks_distance" in json.dumps(summary)
    defined = {record["metric"].get("name") for record in records(file) if record["type"] == "metric"}
    assert "weights/exact/group_2/ks_distance" in defined


def test_nothing_is_written_when_tracking_is_disabled(tmp_path: Path) -> None:
    launch(KS, tmp_path)
    assert not (tmp_path / "wandb").exists()


def opened(results: Path, resumed: bool = False) -> AbstractContextManager[Tracker]:
    return track(
        results, mode="offline", project="mvhg", artifacts=True, group="urn estimator=exact", run_id="abc",
        resumed=resumed,
    )  # fmt: skip


def test_headline_metrics_keep_the_best_value_and_a_failed_run_is_closed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), opened(tmp_path) as tracker:
        tracker.define_metrics({"loss": "min"})
        assert tracker.logger is not None
        for step, loss in enumerate((3.0, 1.0, 2.0)):
            tracker.logger.log_metrics({"loss": loss}, step=step)
        raise RuntimeError("stop")
    assert wandb.run is None
    file = the_file(tmp_path)
    assert len(history(file)) == 3
    exits = [record["exit"] for record in records(file) if record["type"] == "exit"]
    assert exits[0]["exit_code"] == 1
    defined = [record["metric"] for record in records(file) if record["type"] == "metric"]
    [loss_metric] = [metric for metric in defined if metric.get("name") == "loss"]
    assert "min" in json.dumps(loss_metric)
    assert loss_metric["step_metric"] == "trainer/global_step"


def test_neither_a_key_nor_the_machine_and_its_user_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("WANDB_USERNAME", "jane-of-the-lab")
    monkeypatch.setenv("WANDB_HOST", "secret-host")
    monkeypatch.setattr("sys.argv", ["run.py", "argument-of-the-command-line"])
    launch(KS, tmp_path / "results", "logger=offline")
    written = {path: path.read_bytes() for folder in (tmp_path / "results", home) for path in folder.rglob("*.*")
               if path.is_file()}  # fmt: skip
    assert the_file(tmp_path / "results") in written
    for word in (KEY, "correct-horse-battery"):
        assert not [path for path, content in written.items() if word.encode() in content]
    uploaded = the_file(tmp_path / "results").read_bytes()
    for word in ("jane-of-the-lab", "secret-host", "argument-of-the-command-line", "site-packages"):
        assert word.encode() not in uploaded
    assert "environment" not in {record["type"] for record in records(the_file(tmp_path / "results"))}
    assert not list((tmp_path / "results" / "wandb").rglob("requirements.txt"))


def test_a_finished_run_logs_its_tables_and_its_model_without_copying_them(tmp_path: Path) -> None:
    run = launch("weak_supervision method=label_vae shared=3", tmp_path / "results", "logger=offline")
    file = the_file(tmp_path / "results")
    artifacts = [record["artifact"] for record in records(file) if record["type"] == "artifact"]
    logged = {(artifact["type"], artifact["name"]) for artifact in artifacts}
    assert logged == {("results", f"tables-{run.path.name}"), ("model", f"model-{run.path.name}")}
    assert file.stat().st_size < 100_000 < run.model.stat().st_size
    files = {Path(entry["local_path"]) for artifact in artifacts for entry in artifact["manifest"]["contents"]}
    assert files == {run.model, *run.path.glob("*.csv")}


@pytest.mark.parametrize("name", experiments())
def test_an_experiment_s_axes_are_columns_to_group_by_and_no_place_is_logged(name: str) -> None:
    one = cell(name, "profile=smoke", "results=/somewhere", "data_directory=/elsewhere")
    logged = tracked_config(one.plain, one.row)
    assert set(one.row.axes) == set(axes_of(name)) & set(logged)
    assert dict(one.row.axes).items() <= logged.items()
    assert (logged["experiment_name"], logged["changes"], logged["profile"], logged["seed"]) == (name, "", "smoke", 0)
    assert logged["job_type"] in get_args(JobType)
    assert any(tag.startswith(("section-", "appendix-")) for tag in logged["tags"])
    assert "/somewhere" not in json.dumps(logged)
    assert "/elsewhere" not in json.dumps(logged)


def test_changes_are_a_column_and_part_of_the_group() -> None:
    one = cell("urn estimator=exact", "experiment.learning_rate=0.5")
    assert tracked_config(one.plain, one.row)["changes"] == "learning_rate=0.5"
    assert one.row.label == "urn estimator=exact learning_rate=0.5"


def test_online_without_a_key_the_run_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="did not start.*wandb login.*logger=offline"):
        launch(KS, tmp_path, "logger=online")
    assert not list(tmp_path.rglob("finished.json"))


@pytest.mark.parametrize(
    ("setting", "variables", "reason"),
    [
        (f"tags=[{70 * 'a'}]", {}, "is 70 characters. Tags must be between 1 and 64"),
        ("logger.project=a/b", {}, "Invalid project name 'a/b'"),
        ("tags=[a]", {"WANDB_BASE_URL": "no-url"}, "base_url Input should be a valid URL"),
    ],
)
def test_what_w_and_b_refuses_is_one_line(
    setting: str, variables: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variables:
        wandb.teardown()  # the client reads them once
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExperimentError, match="W&B did not start, and so neither did the run") as caught:
        launch(KS, tmp_path, "logger=offline", setting)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_that_starts_over_supersedes_what_was_logged_and_one_that_goes_on_does_not(tmp_path: Path) -> None:
    def log(resumed: bool) -> None:
        with opened(tmp_path, resumed):
            time.sleep(1.1)  # W&B names the folders by the second

    log(False)
    log(True)
    assert len(runs_to_sync(tmp_path)) == 2
    log(False)
    [waiting], superseded = runs_to_sync(tmp_path), list((tmp_path / "wandb").glob("superseded-run-*"))
    assert len(superseded) == 2
    assert waiting.name.removeprefix("offline-run") > max(one.name.removeprefix("superseded-run") for one in superseded)


def test_only_one_module_imports_wandb() -> None:
    importing = [
        path.relative_to(CHECKOUT).as_posix()
        for folder in ("mvhg", "experiments", "scripts")
        for path in (CHECKOUT / folder).rglob("*.py")
        if "import wandb" in path.read_text()
    ]
    assert importing == ["experiments/tracking.py"]
