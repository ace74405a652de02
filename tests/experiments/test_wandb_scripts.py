"""Uploading what is waiting, and publishing the results as a run."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest

from experiments.tracking import track
from scripts import weights_and_biases
from tests.experiments.helpers import CHECKOUT
from tests.experiments.wandb_files import complaint, records, summary, the_file

pytestmark = pytest.mark.usefixtures("no_account")


def offline_run(results: Path, time: str, run_id: str, *files: str) -> Path:
    folder = results / "wandb" / f"offline-run-{time}-{run_id}"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    whole = b"\1one record"  # its kind and its data
    chunk = struct.pack("<IH", zlib.crc32(whole), len(whole) - 1) + whole
    (folder / f"run-{run_id}.wandb").write_bytes(b":W&B\xe1\xbe\0" + chunk)
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
            for log in Path(folder).glob("run-*.wandb"):
                log.with_suffix(".wandb.synced").touch()

    monkeypatch.setattr(weights_and_biases, "logged_in", lambda: True)
    monkeypatch.setattr(weights_and_biases, "require_server", lambda: None)
    monkeypatch.setattr(weights_and_biases, "subprocess", SimpleNamespace(run=upload))
    return commands


def run_lock(results: Path) -> filelock.FileLock:
    folder = results / "runs" / "urn" / "estimator=exact" / "eee"
    folder.mkdir(parents=True)
    return filelock.FileLock(folder / ".lock")


def test_what_is_waiting_is_uploaded_in_order_and_nothing_else(
    results: Path, uploads: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with run_lock(results):
        weights_and_biases.main(["sync", "--results", str(results)])
    [command] = uploads
    assert command[1:4] == ["-m", "wandb", "sync"]
    names = ["20260101_000001-aaa", "20260101_000002-aaa", "20260101_000003-bbb"]
    assert command[4:] == [str(results / "wandb" / f"offline-run-{name}") for name in names]
    assert f"{results / 'wandb'}: 3 to sync\n" == capsys.readouterr().out


def test_a_run_that_w_and_b_refuses_keeps_no_other_from_being_uploaded_and_is_named(
    results: Path, uploads: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, of_all = results / "wandb" / "offline-run-20260101_000003-bbb", weights_and_biases.subprocess
    refusing = SimpleNamespace(run=lambda one, **_: str(broken) in one or of_all.run(one))  # all of it, or nothing
    monkeypatch.setattr(weights_and_biases, "subprocess", refusing)
    with pytest.raises(SystemExit, match="error: 1 of 4 runs not uploaded") as caught:
        weights_and_biases.main(["sync", "--results", str(results)])
    assert str(caught.value).splitlines()[1:] == [f"  {broken}"]
    assert [len(command[4:]) for command in uploads] == [1, 1, 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What W&B writes of a run with 700 records, over several blocks of its log."""
    folder = tmp_path_factory.mktemp("whole")
    with track(folder, mode="offline", project="p", artifacts=False, group="g", run_id="whole") as tracker:
        assert tracker.logger is not None
        for step in range(700):
            tracker.logger.experiment.log({"value": step / 7, "text": "x" * (step % 90)})
    return the_file(folder).read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.31, 0.62, 0.87, 0.999])
@pytest.mark.parametrize("tail", [b"", bytes(5000), bytes(100_000), b"\xff" * 50])
def test_of_a_killed_run_every_record_that_w_and_b_can_read_is_uploaded_and_the_rest_is_named_once(
    whole: bytes,
    share: float,
    tail: bytes,
    tmp_path: Path,
    uploads: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, other = offline_run(tmp_path, "20260101_000001", "aaa"), offline_run(tmp_path, "20260101_000002", "aaa")
    log = folder / "run-aaa.wandb"
    log.write_bytes(whole[: int(share * len(whole))] + tail)
    readable = records(log)
    weights_and_biases.main(["sync", "--results", str(tmp_path)])
    assert records(log) == readable
    assert "incomplete" not in (told := complaint(log)) and "corrupt" not in told
    lines = [line for line in capsys.readouterr().out.splitlines() if "can't be read" in line]
    assert len(lines) == 1 and str(log) in lines[0]
    assert uploads[0][4:] == [str(folder), str(other)]
    weights_and_biases.main(["sync", "--results", str(tmp_path)])
    assert len(uploads) == 1 and "can't be read" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b":W&", b":W&B\xe1\xbe\0", b":W&B\xe1\xbe\0" + bytes(500), b"noise" * 40])
def test_a_part_without_a_record_is_put_aside_and_named(
    content: bytes, tmp_path: Path, uploads: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = offline_run(tmp_path, "20260101_000001", "aaa"), offline_run(tmp_path, "20260101_000002", "aaa")
    (folder / "run-aaa.wandb").write_bytes(content)
    weights_and_biases.main(["sync", "--results", str(tmp_path)])
    assert [command[4:] for command in uploads] == [[str(other)]]
    assert "nothing of it can be read" in capsys.readouterr().out
    [aside] = (tmp_path / "wandb").glob("unreadable-run-*-aaa")
    assert (aside / "run-aaa.wandb").read_bytes() == content


def test_uploading_needs_a_login_but_only_where_something_waits(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="error: W&B has no key: run `wandb login`"):
        weights_and_biases.main(["sync", "--results", str(results)])
    weights_and_biases.main(["sync", "--results", str(results), "--dry-run"])
    assert "offline-run-20260101_000003-bbb" in capsys.readouterr().out
    weights_and_biases.main(["sync", "--results", str(tmp_path / "nothing")])
    assert capsys.readouterr().out == f"{tmp_path / 'nothing' / 'wandb'}: 0 to sync\n"


def sync_apart(results: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads variables once."""
    command = [sys.executable, "-m", "scripts.weights_and_biases", "sync", "--results", str(results)]
    return subprocess.run(
        command, cwd=CHECKOUT, timeout=60, env=os.environ | environ, capture_output=True, text=True, check=False
    )


def test_variables_that_w_and_b_refuses_are_one_line(results: Path) -> None:
    done = sync_apart(results, WANDB_BASE_URL="no-url")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.match("error: W&B refuses a variable WANDB_... of this shell: .*base_url Input should", last)


def test_without_a_network_one_line_says_so_in_seconds(results: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    keys = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": 40 * "0", "HOME": str(tmp_path)}
    done = sync_apart(results, **keys)
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
    weights_and_biases.main(["publish", "--source", str(source), "--results", str(tmp_path / "first")])
    weights_and_biases.main(["publish", "--source", str(source), "--results", str(tmp_path / "again")])
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


def test_pages_are_not_uploaded_while_they_are_logged(
    tmp_path: Path, results: Path, uploads: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_1.md").write_text("| a |\n")
    logging, go_on, track_pages = threading.Event(), threading.Event(), weights_and_biases.track

    def track_slowly(*arguments: Any, **options: Any) -> Any:
        logging.set()
        assert go_on.wait(60)
        return track_pages(*arguments, **options)

    monkeypatch.setattr(weights_and_biases, "track", track_slowly)
    publishing = threading.Thread(target=weights_and_biases.publish, args=(tmp_path, results, "offline", "mvhg"))
    uploading = threading.Thread(target=weights_and_biases.sync, args=(results,))
    publishing.start()
    assert logging.wait(60)
    uploading.start()
    uploading.join(1)
    assert uploading.is_alive() and not uploads
    go_on.set()
    publishing.join()
    uploading.join()
    assert any("-pages-" in folder for command in uploads for folder in command)  # a whole one


def test_publishing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: .* holds no tables, figures, metrics"):
        weights_and_biases.main(["publish", "--source", str(tmp_path), "--results", str(tmp_path)])


def test_what_can_not_be_written_to_the_results_is_not_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_1.md").write_text("| a |\n")
    (results := tmp_path / "results").write_text("a file")
    with pytest.raises(SystemExit, match=f"error: {results}.*: Not a directory"):
        weights_and_biases.main(["publish", "--source", str(tmp_path), "--results", str(results)])
