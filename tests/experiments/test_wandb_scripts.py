"""Uploading what is waiting, and publishing the results as a run."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import filelock
import pytest

from experiments.offline_runs import end_of_records
from experiments.tracking import track
from scripts import wandb_publish, wandb_sync
from tests.experiments.helpers import CHECKOUT
from tests.experiments.wandb_files import records, summary, the_file

pytestmark = pytest.mark.usefixtures("no_account")


RECORD = b"a record of some length"


def chunk(data: bytes, kind: int = 1) -> bytes:
    return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data


LOG = b":W&B\x21\xbe\x00" + 3 * chunk(RECORD)


def offline_run(results: Path, time: str, run_id: str, *files: str) -> Path:
    folder = results / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    for name in (f"run-{run_id}.wandb", *files):
        (folder / name).write_bytes(LOG)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs to upload, of which one was interrupted and went on, and one each of the others."""
    results = tmp_path / "results"
    offline_run(results, "20260101_000002", "aaa")
    offline_run(results, "20260101_000001", "aaa")
    offline_run(results, "20260101_000003", "bbb")
    offline_run(results, "20260101_000004", "ccc", "run-ccc.wandb.synced")
    offline_run(results, "20260101_000006", "eee")
    (results / "wandb" / "superseded-run-20260101_000005-ddd").mkdir()
    (results / "wandb" / "offline-run-20260101_000007-empty").mkdir()
    return results


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that upload, which succeed."""
    commands: list[list[str]] = []

    def upload(command: list[str], **_: Any) -> None:
        commands.append(command)
        for folder in command[4:]:
            (Path(folder) / f"run-{folder.split('-')[-1]}.wandb.synced").touch()

    monkeypatch.setattr(wandb_sync, "logged_in", lambda: True)
    monkeypatch.setattr(wandb_sync, "require_server", lambda: None)
    monkeypatch.setattr(subprocess, "run", upload)
    return commands


def run_lock(results: Path) -> filelock.FileLock:
    folder = results / "runs" / "urn" / "estimator=exact" / "eee"
    folder.mkdir(parents=True)
    return filelock.FileLock(folder / ".lock")


def test_what_is_waiting_is_uploaded_in_order_and_nothing_else(
    results: Path, uploads: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with run_lock(results):
        wandb_sync.main(["--results", str(results)])
    [command] = uploads
    assert command[1:4] == ["-m", "wandb", "sync"]
    names = ["20260101_000001-aaa", "20260101_000002-aaa", "20260101_000003-bbb"]
    assert command[4:] == [str(results / "wandb" / f"offline-run-{name}") for name in names]
    assert "3 to sync, 1 synced before, 1 started over since, 1 still running" in capsys.readouterr().out


@pytest.mark.parametrize("tail", [chunk(RECORD)[:-1], chunk(RECORD)[:3], bytes(5000), chunk(RECORD, 2), b"\xff" * 9])
def test_the_end_of_a_killed_run_that_can_not_be_read_is_cut_off_and_named_once(
    tail: bytes, results: Path, uploads: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    log = results / "wandb" / "offline-run-20260101_000001-aaa" / "run-aaa.wandb"
    log.write_bytes(LOG + tail)
    wandb_sync.main(["--results", str(results)])
    assert f"{log}: its last {len(tail)} bytes can't be read" in capsys.readouterr().out
    assert log.read_bytes() == LOG
    assert len(uploads[0][4:]) == 4  # all of them
    wandb_sync.main(["--results", str(results)])
    assert "can't be read" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b":W&", LOG[:20], b"something else"])
def test_a_part_without_a_readable_record_is_named_once_and_left_out(
    content: bytes, results: Path, uploads: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = results / "wandb" / "offline-run-20260101_000001-aaa"
    (folder / "run-aaa.wandb").write_bytes(content)
    wandb_sync.main(["--results", str(results)])
    assert f"{folder}: no record in it can be read, left out" in capsys.readouterr().out
    assert len(uploads[0][4:]) == 3
    assert not folder.exists()


def whole_log(log: Path) -> bytes:
    """Reads a log when W&B's own process has written its last block, which may be after the run has finished."""
    deadline = time.monotonic() + 30
    while end_of_records(content := log.read_bytes()) < len(content) and time.monotonic() < deadline:
        time.sleep(0.1)
    return content


def test_the_end_of_a_log_that_wandb_wrote_is_found(tmp_path: Path) -> None:
    with track(
        mode="offline", project="mvhg", row="urn", run_id="abc", seed=0, job_type="train", tags=[], config={},
        results=tmp_path,
    ) as tracker:  # fmt: skip
        assert tracker.logger is not None
        for step in range(400):
            tracker.logger.log_metrics({"loss": 1.0 / (1 + step)}, step=step)
    content = whole_log(the_file(tmp_path))
    assert len(content) > 2**16  # records go over the ends of blocks
    assert end_of_records(content) == len(content)
    ends = {end_of_records(content[:size]) for size in range(len(content) - 2000, len(content), 20)}
    assert len(ends) > 3
    for end in sorted(ends)[:2]:
        (tmp_path / "cut.wandb").write_bytes(content[:end])
        assert records(tmp_path / "cut.wandb")


def test_the_zeros_that_fill_a_block_belong_to_the_log() -> None:
    block = 1 << 15
    data = b"x" * (block - 7 - 7 - 3)  # behind a header and in front of three bytes, too few for another chunk
    chunk = struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([1]))), len(data), 1) + data
    log = b":W&B" + bytes(3) + chunk
    assert len(log) == block - 3
    for more in range(4):
        assert end_of_records(log + bytes(more)) == len(log) + more
    assert end_of_records(log + b"abc") == len(log)


def test_an_upload_that_fails_is_an_error(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_sync, "logged_in", lambda: True)
    monkeypatch.setattr(wandb_sync, "require_server", lambda: None)
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


def test_without_a_network_one_line_says_so_in_seconds(results: Path, tmp_path: Path) -> None:
    environ = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": 40 * "0", "HOME": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.wandb_sync", "--results", str(results)], cwd=CHECKOUT, timeout=60,
        env=os.environ | environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - started < 30
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: W&B does not answer at http://127.0.0.1:9: no network? The same command tries again"
    )
    assert (results / "wandb" / "offline-run-20260101_000003-bbb").exists()


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
