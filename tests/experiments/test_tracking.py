"""W&B offline: no account, and what was logged can be read back from the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.common.tracking import track
from tests.experiments.helpers import CHECKOUT, KS, launch


def inspect(file: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in inspect(file).splitlines()]


def history(file: Path) -> list[dict[str, Any]]:
    return [record["history"] for record in records(file) if record["type"] == "history"]


def the_file(results: Path) -> Path:
    [file] = (results / "wandb").glob("offline-run-*/run-*.wandb")
    return file


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


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
    assert started["tags"] == ["figure-1", "figure-4"]
    summary = json.loads(inspect(file, "--summary"))
    assert summary["config"]["experiment"]["sampler"] == "sample"
    assert "exact/largest_ks_distance" in json.dumps(summary)
    defined = {record["metric"].get("name") for record in records(file) if record["type"] == "metric"}
    assert "weights/exact/group_2/ks_distance" in defined


def test_nothing_is_written_when_tracking_is_disabled(tmp_path: Path) -> None:
    launch(KS, tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_headline_metrics_keep_the_best_value_and_a_failed_run_is_closed(tmp_path: Path) -> None:
    import wandb

    settings: dict[str, Any] = {
        "mode": "offline",
        "project": "mvhg",
        "row": "room/row",
        "run_id": "abc",
        "seed": 0,
        "job_type": "train",
        "tags": [],
        "config": {},
        "results": tmp_path,
    }
    with pytest.raises(RuntimeError, match="stop"), track(**settings) as tracker:
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
    assert "min" in json.dumps([metric for metric in defined if metric.get("name") == "loss"])


def test_only_one_module_imports_wandb() -> None:
    importing = [
        path.relative_to(CHECKOUT).as_posix()
        for folder in ("mvhg", "experiments", "scripts")
        for path in (CHECKOUT / folder).rglob("*.py")
        if "import wandb" in path.read_text()
    ]
    assert importing == ["experiments/common/tracking.py"]
