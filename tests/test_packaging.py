"""The library installs alone, and the files that describe the environment agree with each other."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mvhg
from experiments.configuration import choices, experiments

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
ASKED_FOR = (
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "wandb",
    "scikit-learn",
    "scipy",
    "disentanglement-lib",
    "tensorflow",
)


def requirements() -> dict[str, Requirement]:
    """Every requirement of the library and its extras by name."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def pins() -> dict[str, tuple[str, Marker | None]]:
    """Version and marker of every line of constraints.txt by name."""
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): (str(one.specifier).removeprefix("=="), one.marker) for one in parsed}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel built from it, made without a network."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((CHECKOUT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def test_the_wheel_holds_the_library_and_nothing_else(distributions: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    assert wheel.name == f"mvhg-{mvhg.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"mvhg-{mvhg.__version__}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"mvhg", f"mvhg-{mvhg.__version__}.dist-info"}
    assert "mvhg/py.typed" in names
    modules = {f"mvhg/{path.name}" for path in (CHECKOUT / "mvhg").glob("*.py")}
    assert {name for name in names if name.startswith("mvhg/")} == modules | {"mvhg/py.typed"}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(needed) == 1
    assert needed[0].startswith("Requires-Dist: torch")


def test_the_source_distribution_holds_what_a_build_needs(distributions: Path) -> None:
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "mvhg/__init__.py", "mvhg/py.typed"} <= names
    tests = {f"tests/mvhg/{path.name}" for path in (CHECKOUT / "tests" / "mvhg").glob("*.py")}
    shared = {"tests/__init__.py", "tests/conftest.py", "tests/oracle.py", "tests/urns.py"}
    assert {name for name in names if name.startswith("tests/") and name.endswith(".py")} == tests | shared


ALONE = """
import sys
installed = sys.argv[1]
sys.path.insert(0, installed)
heavy = ("pytorch_lightning", "torchmetrics", "hydra", "omegaconf", "wandb", "scipy", "sklearn", "pandas", "matplotlib")
for name in heavy:
    sys.modules[name] = None  # importing it now raises
import mvhg
assert mvhg.__file__.startswith(installed), mvhg.__file__
law = mvhg.MultivariateHypergeometric(total_count=5, group_sizes=[3, 5, 4])
print(int(law.sample().sum()))
"""


def test_the_wheel_installs_alone_and_needs_torch_only(distributions: Path, tmp_path: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=120)
    command = [sys.executable, "-c", ALONE, str(target)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\n"


def test_the_types_check() -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout


def test_the_code_is_in_style() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


def test_every_requirement_is_bounded() -> None:
    for name, requirement in requirements().items():
        operators = {one.operator for one in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}), name


def test_the_constraints_lie_within_the_ranges() -> None:
    pinned = pins()
    unpinned = {"setuptools"}  # the build's own
    for name, requirement in requirements().items():
        if name not in unpinned:
            version, marker = pinned[name]
            assert requirement.specifier.contains(version), f"{requirement} but {name}=={version}"
            assert marker is None or not marker.evaluate({"python_version": "3.10"})
    assert not any("+" in version for version, _ in pinned.values())


def test_the_conda_environment_parses_and_agrees() -> None:
    environment = OmegaConf.to_container(OmegaConf.load(CHECKOUT / "environment.yml"))
    assert isinstance(environment, dict)
    assert set(environment) == {"name", "channels", "dependencies"}
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    for entry in conda:
        assert re.fullmatch(r"[a-z0-9-]+ >=[\d.]+(,<[\d.]+)?", entry), entry  # bounded, and no build string
    editable, listed = pip[-1], [Requirement(line) for line in pip[:-1]]
    assert editable == "--editable .[experiments,renderer,dev]"
    names = {entry.split()[0] for entry in conda} | {requirement.name for requirement in listed}
    assert set(ASKED_FOR) <= names
    ours = requirements()
    for requirement in listed:
        assert requirement.specifier == ours[requirement.name].specifier, requirement
    for entry in conda:
        name, _, specifier = entry.partition(" ")
        name = name.removesuffix("-base")
        if name in ours:
            assert Requirement(f"{name}{specifier}").specifier == ours[name].specifier, entry


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60).stdout


def test_make_alone_explains_every_target() -> None:
    text = make()
    assert text == make("help")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    explained = set(re.findall(r"^  ([a-z][a-z0-9-]*)  ", text, re.MULTILINE))
    assert targets == explained
    assert {f"reproduce-fig{number}" for number in (1, 2, 3, 4, 7, 8, 9, 10, 11, 13)} <= explained
    assert {f"reproduce-table{number}" for number in (1, 2, 3)} <= explained


@pytest.mark.parametrize("seeds", ["range(0,3)", "0, 1", "0,", ""])
def test_make_refuses_seeds_that_only_some_of_a_targets_commands_understand(seeds: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make("--dry-run", "reproduce-fig1", f"SEEDS={seeds}")
    assert f"SEEDS={seeds}: give seeds with commas between them, such as SEEDS=0,1,2" in caught.value.stderr


@pytest.mark.parametrize("profile", ["typo", "", "smoke,quick", "smoke quick"])
def test_make_refuses_a_profile_that_is_none_before_anything_runs(profile: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make("--dry-run", "reproduce-fig1", f"PROFILE={profile}")
    assert f"PROFILE={profile}: give smoke, quick, medium or paper" in caught.value.stderr


def test_make_refuses_a_data_set_that_it_does_not_know_before_anything_runs() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make("--dry-run", "reproduce", "DATA=typo")
    assert "DATA=typo: there is no such data set" in caught.value.stderr


def planned(*targets: str, settings: tuple[str, ...] = ()) -> str:
    """The commands of some targets, each planned by itself, in an environment of one's own."""
    return "".join(make("--dry-run", target, "PY=python", *settings) for target in targets)


def commands(text: str) -> list[dict[str, str]]:
    """What the runs of some planned commands are given, by key."""
    lines = [
        shlex.split(line.partition("experiments.run")[2]) for line in text.splitlines() if "experiments.run" in line
    ]
    return [dict(word.split("=", 1) for word in line if "=" in word) for line in lines]


# Experiments that `make reproduce` leaves to targets of their own.
ELSEWHERE = {
    "clustering_control": "clustering-studies",
    "disentanglement": "reproduce-fig11",
}


@pytest.mark.parametrize("experiment", experiments())
def test_make_reproduce_and_other_targets_run_every_experiment_and_every_choice(experiment: str) -> None:
    planned_here = commands(planned(ELSEWHERE.get(experiment, "reproduce"), "reproduce-fig2"))
    given = [command for command in planned_here if command["experiment"] == experiment]
    assert given
    for axis in ("method", "prior", "estimator", "series"):
        values = {value for command in given for value in command.get(axis, "").split(",") if value}
        assert not values or experiment == "disentanglement" or values == set(choices(axis))


def test_a_training_that_stops_keeps_no_page_from_being_made_except_in_smoke(tmp_path: Path) -> None:
    python, made = tmp_path / "python", tmp_path / "made"

    def end_with(status: int) -> None:
        cases = f'*experiments.run*) exit {status};; *scripts.pages*) echo "$@" >> {made};;'
        python.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n')
        python.chmod(0o755)

    end_with(3)
    make("reproduce-table1", f"PY={python}")
    assert "--only table_1" in made.read_text()
    made.unlink()
    with pytest.raises(subprocess.CalledProcessError):
        make("smoke", f"PY={python}")
    end_with(1)  # a command that is refused
    with pytest.raises(subprocess.CalledProcessError):
        make("reproduce-table1", f"PY={python}")
    assert not made.exists()


def test_table_2_has_every_recipe() -> None:
    [given] = commands(planned("reproduce-table2"))
    assert set(given["recipe"].split(",")) == set(choices("recipe"))


def test_make_takes_profile_seeds_and_data_to_the_rooms_that_have_them() -> None:
    settings = ("PROFILE=medium", "SEEDS=0,1", "DATA=mpi3d_toy", "JOBS=1")
    targets = ("reproduce-table1", "reproduce-fig2", "reproduce-fig11", "reproduce-fig13", "weak-supervision-studies")
    for target in targets:
        runs = [line for line in planned(target, settings=settings).splitlines() if "experiments.run" in line]
        assert runs, target
        for line in runs:
            assert "profile=medium seed=0,1" in line
            assert "experiment.data.source=mpi3d_toy" in line
            assert "joblib" not in line
    for data, taken in (("mpi3d_toy", "weak_supervision"), ("mnist", "clustering")):
        plan = planned("reproduce", settings=(f"DATA={data}",))
        assert set(re.findall(r"data\.source=(\w+) experiment=(\w+)", plan)) == {(data, taken)}


def test_make_gives_one_way_to_run_several_cells_at_once_and_smoke_is_smoke() -> None:
    assert "launcher=" not in planned("reproduce-fig13", settings=("ARGS=trainer=gpu runs_at_once=4",))
    assert "profile=medium" not in planned("smoke", settings=("PROFILE=medium",))


def test_figure_13_is_made_of_changes_of_one_row() -> None:
    given = commands(planned("reproduce-fig13"))
    assert all(command["experiment"] == "weak_supervision" and command["shared"] == "3" for command in given)
    key = "experiment.training.{}".format
    assert [command.get(key("final_temperature")) for command in given] == ["0.01,0.1,1", None]
    assert key("learning_rate") in given[1]
    assert "model.objective" not in planned("reproduce-fig13")
