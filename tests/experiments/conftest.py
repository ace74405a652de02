"""Fixtures that several files of tests ask for by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from experiments import cell_process
from experiments.claims.rules import Claim
from experiments.claims.summary import judge_all
from scripts import pages
from tests.experiments.helpers import CHECKOUT

METRICS = CHECKOUT / "results" / "metrics"
MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session", autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Ends the processes in which functions ran apart."""
    yield
    for child, connection in cell_process._idle:
        connection.close()
        child.process.wait(30)


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def alone(common_folder: Path) -> Path:
    """Results folder of runs that others are compared with: what is finished there is not run again."""
    return common_folder / "alone"


@pytest.fixture(scope="session")
def make_once(common_folder: Path) -> MakeOnce:
    """Fills a folder of a name in the first of pytest's processes that asks; the others wait, and read the same."""

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, unfinished = common_folder / name, common_folder / f"{name}.unfinished"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def committed_claims() -> list[Claim]:
    """Of the committed metrics."""
    return judge_all(METRICS)[0]


@pytest.fixture(scope="session")
def committed_report(make_once: MakeOnce) -> Path:
    """The page of the committed metrics."""

    def write(folder: Path) -> None:
        pages.main(["--metrics", str(METRICS), "--report", str(folder / "report.html")])

    return make_once("report", write) / "report.html"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch, as runs have: threads that wait for each other on a busy machine take many times longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B without a key, whatever the user's own settings."""
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
