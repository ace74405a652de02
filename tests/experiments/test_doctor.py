"""What the doctor says of surroundings that are known."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import doctor
from tests.experiments.helpers import CHECKOUT

KEY = "0123456789abcdef0123456789abcdef01234567"
OWN = doctor.packages((CHECKOUT / "pyproject.toml").read_text(), (CHECKOUT / "constraints.txt").read_text())


def test_what_is_needed_is_looked_for_and_added_by_targets_that_exist() -> None:
    assert set(doctor.NEEDS) <= set(doctor.survey(OWN))
    known = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z0-9-]+)", str(doctor.NEEDS)))
    assert len(named) > 5
    assert named <= known


def test_requirements_and_pins_are_those_of_the_files() -> None:
    pyproject = """dependencies = ["torch>=2.6,<2.14"]
[project.optional-dependencies]
experiments = [
    "pytest>=1,<99", # a comment, "quoted" or not
    "pooch[progress]>=1.8",
]
dev = ["no-such-package-at-all>=1"]
"""
    found = doctor.packages(pyproject, 'pytest==0.0.1\npooch==1.9.0; python_version >= "3.11"\n')
    assert [(name, pin, extra) for name, _, pin, extra in found] == [
        ("torch", "-", "library"), ("pytest", "0.0.1", "experiments"), ("pooch", "1.9.0", "experiments"),
        ("no-such-package-at-all", "-", "dev"),
    ]  # fmt: skip
    assert [there for name, there, *_ in found if name in ("pytest", "no-such-package-at-all")] == [
        pytest.__version__, "missing",
    ]  # fmt: skip
    assert {"torch", "hydra-core", "wandb-workspaces", "tensorflow", "panda3d", "pytest"} <= {row[0] for row in OWN}


def test_data_is_found_where_experiments_look(tmp_path: Path) -> None:
    nothing = {f"data {name}": "none" for name in ("mnist", "mpi3d_toy", "mpi3d_realistic", "mpi3d_real")}
    raw, images = tmp_path / "MNIST" / "raw", tmp_path / "mpi3d" / "mpi3d_real.npz"
    raw.mkdir(parents=True)
    for name in doctor.MNIST[:-1]:
        (raw / name).touch()
    assert doctor.find_data(tmp_path) == nothing
    (raw / f"{doctor.MNIST[-1]}.gz").touch()
    images.parent.mkdir()
    images.touch()
    assert doctor.find_data(tmp_path) == nothing | {"data mnist": str(raw), "data mpi3d_real": str(images)}


BARE = """
import sys
for name in ("torch", "wandb", "hydra", "omegaconf", "numpy", "pandas", "pydantic", "filelock", "packaging"):
    sys.modules[name] = None  # importing it now raises
import importlib.metadata
def nothing(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = nothing
from scripts import doctor
doctor.main()
"""


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT), "HOME": str(home), "WANDB_API_KEY": KEY}
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_works_where_nothing_is_installed(tmp_path: Path) -> None:
    done = run("-c", BARE, home=tmp_path)
    assert done.returncode == 1
    missing = done.stdout.partition("Missing\n")[2]
    assert re.search(r"extra experiments +every experiment, table and figure +make install", missing), done.stderr
    assert not done.stderr


def test_folders_of_nobody_are_said_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVHG_DATA_DIR", "~nobody-here/data")
    monkeypatch.setenv("MVHG_RESULTS_DIR", "~nobody-here/results")
    assert doctor.survey(OWN)["data folder"] == "~nobody-here/data"


def test_it_names_what_is_there_and_what_is_not_and_is_silent_about_the_key(tmp_path: Path) -> None:
    done = run("-m", "scripts.doctor", home=tmp_path)
    assert done.returncode == 0
    assert re.findall(r"^\w+$", done.stdout, re.MULTILINE) == ["Installed", "Found", "Missing"]
    found, missing = done.stdout.partition("Found\n")[2].split("Missing\n")
    for what in doctor.NEEDS:
        assert bool(re.search(rf"^  {what} +none$", found, re.MULTILINE)) == (f"\n  {what}  " in missing)
    assert "a key is there" in found
    assert KEY not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout
