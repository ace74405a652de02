"""Uploading what is waiting, and publishing the results as a run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import filelock
import pytest

from scripts import wandb_publish, wandb_sync
from tests.experiments.wandb_files import records, summary, the_file


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def offline_run(results: Path, time: str, run_id: str, *files: str) -> Path:
    folder = results / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    for name in (f"run-{run_id}.wandb", *files):
        (folder / name).touch()
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs to upload, of which one was interrupted and went on, and one each of the others."""
    results = tmp_path / "results"
    offline_run(results, "20260101_000002", "aaa")
    offline_run(results, "20260101_000001", "aaa")
    offline_run(results, "20260101_000003", "bbb")
    offline_run(results, "20260101_000004", "ccc", "run-ccc.wandb.synced")
    offline_run(results, "20260101_000005", "ddd", "superseded")
    offline_run(results, "20260101_000006", "eee")
    (results / "wandb" / "offline-run-20260101_000007-empty").mkdir()
    return results


def run_lock(results: Path) -> filelock.FileLock:
    folder = results / "runs" / "room" / "row" / "eee"
    folder.mkdir(parents=True)
    return filelock.FileLock(folder / ".lock")


def test_what_is_waiting_is_uploaded_in_order_and_nothing_else(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def upload(command: list[str], **_: Any) -> None:
        commands.append(command)
        for folder in command[4:]:
            (Path(folder) / f"run-{folder.split('-')[-1]}.wandb.synced").touch()

    monkeypatch.setattr(wandb_sync, "logged_in", lambda: True)
    monkeypatch.setattr(subprocess, "run", upload)
    with run_lock(results):
        wandb_sync.main(["--results", str(results)])
    [command] = commands
    assert command[1:4] == ["-m", "wandb", "sync"]
    names = ["20260101_000001-aaa", "20260101_000002-aaa", "20260101_000003-bbb"]
    assert command[4:] == [str(results / "wandb" / f"offline-run-{name}") for name in names]
    assert "3 to sync, 1 synced before, 1 started over since, 1 still running" in capsys.readouterr().out


def test_an_upload_that_fails_is_an_error(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_sync, "logged_in", lambda: True)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: None)
    with pytest.raises(SystemExit, match="error: 4 of 4 runs not uploaded"):
        wandb_sync.main(["--results", str(results)])


def test_uploading_needs_a_login_but_only_where_something_waits(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="error: W&B has no key: run `wandb login`"):
        wandb_sync.main(["--results", str(results)])
    wandb_sync.main(["--results", str(results), "--dry-run"])
    assert "offline-run-20260101_000003-bbb" in capsys.readouterr().out
    wandb_sync.main(["--results", str(tmp_path / "nothing")])
    assert capsys.readouterr().out == f"{tmp_path / 'nothing' / 'wandb'}: 0 to sync, 0 synced before, " + (
        "0 started over since, 0 still running\n"
    )


def test_tables_and_figures_are_published_as_one_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("tables", "figures"):
        (source / folder).mkdir(parents=True)
    (source / "tables" / "table_1.md").write_text("| a |\n")
    figure = Path(__file__).resolve().parents[2] / "results" / "figures" / "figure_1.png"
    (source / "figures" / "figure_1.png").write_bytes(figure.read_bytes())
    wandb_publish.main(["--source", str(source), "--results", str(tmp_path / "first")])
    wandb_publish.main(["--source", str(source), "--results", str(tmp_path / "again")])
    file = the_file(tmp_path / "first")
    assert file.name == the_file(tmp_path / "again").name  # the same files are the same run
    every = records(file)
    [started] = [record["run"] for record in every if record["type"] == "run"]
    assert (started["run_group"], started["job_type"]) == ("pages", "evaluate")
    artifacts = {record["artifact"]["name"]: record["artifact"] for record in every if record["type"] == "artifact"}
    kinds = {name: artifact["type"] for name, artifact in artifacts.items()}
    assert kinds == {"tables": "results", "figures": "figures"}
    assert "figures/figure_1" in summary(file)["summary"]
    assert any(path.read_bytes() == figure.read_bytes() for path in file.parent.rglob("*.png"))


def test_publishing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: .* holds no tables, figures, metrics"):
        wandb_publish.main(["--source", str(tmp_path), "--results", str(tmp_path)])
