"""The command line: clear refusals, multirun, and what an interrupted run becomes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from pytorch_lightning.plugins.environments import (
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from experiments.command_line import check_command_line
from experiments.configuration import experiments
from experiments.context import RunContext
from experiments.environment import leave_process_group
from experiments.run import attempt, start
from experiments.settings import ExperimentError
from experiments.store import RunDirectory
from experiments.tracking import Tracker
from tests.experiments.helpers import (
    CHECKOUT,
    KS,
    cell,
    command,
    csv_bytes,
    environment,
    launch,
    run_command,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("experiment=urn no_such_key=1", "'no_such_key' is not in struct; the command without it, and with -c job, "),
        ("experiment=urn shared=3", "error: shared=3: experiment=urn has no axis shared; its axes: estimator"),
        ("experiment=weak_supervision/hgvae_s3", "is now: experiment=weak_supervision method=hgvae shared=3"),
        ("", "error: choose an experiment with experiment=NAME, one of: accuracy, clustering"),
        (
            "experiment=urn experiment.temperature=0",
            "temperature: input should be greater than or equal to 0.000001, got 0",
        ),
        (f"experiment=urn logger.project={40 * 'a'}", "error: logger.project looks like a credential"),
    ],
)
def test_a_wrong_command_ends_with_a_message_and_no_stack_trace(arguments: str, message: str, tmp_path: Path) -> None:
    done = run_command(*arguments.split(), f"results={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert 40 * "a" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "experiment=urn profile=huge",
            "profile=huge: there is no such choice; choose from medium, paper, quick, smoke",
        ),
        ("experiment=urn launcher=moon", "launcher=moon: there is no such choice; choose from local"),
        ("experiment=urn launcher=local", "launcher=local launches the cells of a multirun: give -m, too"),
        ("experiment=urn runs_at_once=2", "runs_at_once=2 is about the cells of a multirun: give -m, too"),
        ("-m experiment=urn launcher=local runs_at_once=2", "runs_at_once=2 shares one process, and launcher=local"),
        ("experiment=urn hydra/launcher=joblib", "hydra/launcher=joblib: choose with launcher=serial"),
        ("experiment=urm", "experiment=urm: there is no such experiment; near it: urn"),
        ("experiment=table", f"experiment=table: there is no such experiment; choose from {', '.join(experiments())}"),
        ("method=hgvae", "choose an experiment with experiment=NAME"),
        (
            "experiment=urn estimator=best",
            "estimator=best: there is no such choice; choose from exact, maximum_likelihood",
        ),
        ("-m experiment=clustering prior=uniform,zipf", "prior=zipf: there is no such choice; choose from categorical"),
        ("experiment=accuracy series=draws", "series=draws: experiment=accuracy has no axis series; its axes: sampler"),
        ("-m experiment=accuracy,urn sampler=sample", "sampler=sample: experiment=urn has no axis sampler"),
        ("-m experiment=clustering,clustering_control prior=uniform", "give each a command of its own"),
        (
            "experiment=clustering prior=uniform reading=counts",
            "reading=counts: prior=uniform has no reading; prior=",
        ),
        (
            "experiment=clustering recipe=vade experiment.pretraining.start.neighbours=10",
            "recipe=vade has no experiment.pretraining.start.neighbours; recipe=n2d has",
        ),
        ("experiment=clustering_control prior=uniform experiment.training.guidance_weight=5", "control has no exp"),
        (
            "-m experiment=clustering recipe=n2d,vade experiment.training.guidance_weight=3",
            "recipe=vade has no experiment.training.guidance_weight; recipe=n2d has",
        ),
        (
            "experiment=clustering sweep=learning_rate",
            "is over settings of experiment=weak_supervision: leave experiment=",
        ),
        ("sweep=learning_rate version=60", "version=60: experiment=weak_supervision has no axis version"),
        ("experiment=weak_supervision experiment.data.shared=5", "it is what shared is; give shared=VALUE"),
        ("experiment=clustering experiment.prior.reading=assignments", "it is what reading is; give reading=VALUE"),
        ("experiment=weak_supervision experiment.model.image_size=64", "give experiment.data.image_size=VALUE"),
        ("experiment=kolmogorov_smirnov series=[draws,sizes]", "series=[draws,sizes]: a run takes one"),
        ("experiment=urn.yaml", "experiment=urn.yaml: there is no such experiment; choose from accuracy"),
        ("experiment=./urn", "experiment=./urn: there is no such experiment; near it: urn"),
        ("experiment=../experiment/urn", "experiment=../experiment/urn: there is no such experiment"),
        ("experiment=[urn]", "experiment=[urn]: a run takes one"),
        ("experiment='urn '", "experiment=urn : there is no such experiment"),
        ("experiment=URN", "experiment=URN: there is no such experiment"),
        ("-m experiment=choice(urn,urm)", "experiment=urm: there is no such experiment"),
        ("experiment=urn estimator=exact.yaml", "estimator=exact.yaml: there is no such choice"),
        ("experiment=urn estimator=_training", "estimator=_training: there is no such choice"),
        ("experiment=urn profile=./quick", "profile=./quick: there is no such choice"),
        ("experiment=urn profile@here=quick", "choices have no packages here; give profile=NAME"),
        ("--experiment=", "--experiment=: there is no such option; settings have no hyphens before them"),
        ("experiment=urn --seed=1", "--seed=1: there is no such option"),
        ("experiment=urn --multi seed=0,1", "--multi: there is no such option"),
        ("experiment=urn --config-dir=elsewhere", "--config-dir=elsewhere: there is no such option"),
        ("experiment=urn seed=0 seed=1", "seed=1: seed is given twice"),
        ("experiment=urn fast", "fast: can't be read as KEY=VALUE"),
        ("experiment=urn =1", "'=1': settings are given as KEY=VALUE"),
        ("experiment=urn tags=[a", "tags=[a: can't be read as KEY=VALUE"),
        ("experiment=null", "experiment=null: there is no such experiment"),
        ("experiment=", "experiment=: there is no such experiment"),
        ("experiment=urn estimator=null", "estimator=null: there is no such choice"),
        ("experiment=urn estimator=", "estimator=: there is no such choice"),
        ("experiment=urn experiment=urn", "experiment=urn: experiment is given twice"),
        ("experiment=urn seed=0 ++seed=1", "++seed=1: seed is given twice"),
        ("experiment=urn -m -c job seed=0,1", "-m and -c: leave one out; -c and -i show what one run would be"),
        ("experiment=urn --cfg=job --info", "--cfg and --info: leave one out"),
        ("experiment=urn -m=1", "-m=1: there is no such option"),
        ("experiment=urn +experiment.extra=1", "+experiment.extra=1: keys can't be added or removed"),
        ("experiment=urn +trainer.max_epochs=0", "+trainer.max_epochs=0: keys can't be added or removed"),
        ("experiment=urn ~profile", "~profile: keys can't be added or removed"),
        ("experiment=urn axes=[x]", "axes=[x]: axes is no setting"),
        ("experiment=disentanglement experiment.trained_run=abc", "trained_run is no setting; it is the run"),
        ("experiment=urn profile=smoke profile.name=paper", "profile.name=paper: profile.name is no setting; choose"),
        ("experiment=urn hydra.run.dir=x", "hydra.run.dir=x: of Hydra's own settings only hydra.launcher.* and"),
        ("experiment=urn hydra.job.chdir=true", "of Hydra's own settings only"),
        ("experiment=urn hydra/sweeper=optuna", "of Hydra's own settings only"),
        ("experiment=urn experiment.problem={a:1}", "settings are given one by one, as in experiment.problem.NAME="),
        ("-m experiment=urn experiment.problem={a:1},{a:2}", "as in experiment.problem.NAME=VALUE"),
        ("experiment=urn results=", "results=: give a folder"),
        ("-m experiment=urn results=null", "results=null: give a folder"),
        ("experiment=urn data_directory=~nobody-here/x", "there is no home folder ~nobody-here"),
        ("-m experiment=urn launcher=serial,local", "launcher=serial,local: launcher makes no other run; give each"),
        ("-m experiment=urn trainer.accelerator=cpu,gpu", "trainer.accelerator makes no other run"),
        ("-m experiment=urn results=a,b", "results=a,b: results makes no other run"),
        ("-m sweep=learning_rate,final_temperature", "sweep makes no other run"),
        ("-m experiment=urn results=/proc/none", "the results folder /proc/none can't be written"),
        ("sweep=learning_rate results=/proc/none", "the results folder /proc/none can't be written"),
    ],
)
def test_names_are_checked_before_hydra_starts(arguments: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_command_line(re.split(r" (?!')", arguments) if arguments else [])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_commands_of_the_makefile_are_accepted(tmp_path: Path) -> None:
    targets = re.findall(
        r"^((?:reproduce|smoke|clustering-studies|weak-supervision-studies)[\w-]*):.*## ",
        (CHECKOUT / "Makefile").read_text(),
        re.MULTILINE,
    )
    done = subprocess.run(["make", "--dry-run", "PY=python", *targets], cwd=CHECKOUT, capture_output=True, text=True)
    commands = {line.partition("-m experiments.run ")[2] for line in done.stdout.splitlines()} - {""}
    assert len(commands) > 20, done.stderr
    for line in sorted(commands):
        check_command_line([*shlex.split(re.sub(r"results=\S+", "", line)), f"results={tmp_path}"])


def test_quotes_change_no_choice() -> None:
    for word in ("runs_at_once='1'", "launcher='serial'"):
        assert check_command_line(["experiment=urn", word]) == ["experiment=urn", word]


@pytest.mark.parametrize("name", ["spaces in it", "comma,=equals"])
def test_make_takes_a_results_folder_of_any_name(name: str, tmp_path: Path) -> None:
    results = tmp_path / name
    done = subprocess.run(
        ["make", "--dry-run", "PY=python", f"MVHG_RESULTS_DIR={results}", "reproduce-table2", "wandb-sync"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    commands = [words[words.index("experiments.run") + 1 :] for words in lines if "experiments.run" in words]
    assert commands
    for words in commands:
        assert f'results="{results}"' in check_command_line(words)
        assert (results / "runs").is_dir()
    assert all(str(results) in words for words in lines if "--results" in words)


def test_make_says_where_it_works(tmp_path: Path) -> None:
    command = ["make", "-f", str(CHECKOUT / "Makefile"), "help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "this Makefile works in its own folder: make -C FOLDER TARGET" in done.stderr


def test_what_nobody_foresaw_is_a_line_too_and_its_stack_trace_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cell(KS, "profile=smoke", "logger=disabled", f"results={tmp_path}")

    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'umap'")

    monkeypatch.setattr("experiments.kolmogorov_smirnov.experiment.exact_marginals", fail)
    with pytest.raises(ExperimentError) as caught:
        attempt(one)
    trace = one.run.checkpoints / "traceback.txt"
    reason = f"No module named 'umap'; `make doctor` says what is missing (stack trace: {trace})"
    assert str(caught.value) == f"ModuleNotFoundError: {reason}"
    assert trace.read_text().startswith("Traceback")
    assert one.run.failure == "ModuleNotFoundError: No module named 'umap'"
    monkeypatch.undo()
    attempt(one)
    assert not trace.exists() and one.run.failure is None


def test_the_sign_of_several_runs_may_stand_anywhere() -> None:
    assert check_command_line(["experiment=urn", "-m", "seed=0,1"]) == ["-m", "experiment=urn", "seed=0,1"]
    assert check_command_line(["experiment=urn", "--multirun"]) == ["--multirun", "experiment=urn"]


@pytest.mark.parametrize("several", ["seed=0,1", "seed=range(3)", "experiment=urn,accuracy", "estimator=glob(*)"])
def test_several_values_without_a_multirun_are_refused(several: str, tmp_path: Path) -> None:
    arguments = [f"results={tmp_path}", *["experiment=urn"] * (not several.startswith("experiment")), several]
    with pytest.raises(ExperimentError, match=re.escape(f"{several}: several values make several runs: give -m, too")):
        check_command_line(arguments)
    check_command_line(["-m", *arguments])
    if several.startswith("seed"):
        check_command_line([several, arguments[0], "sweep=learning_rate"])


def test_a_home_folder_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    typed = ["experiment=urn", "results=~/a", "data_directory='~/b'", "experiment.x=~", "job_type='a~b'"]
    passed = ["experiment=urn", "results=/home/jane/a", "data_directory='/home/jane/b'", "experiment.x=/home/jane"]
    assert check_command_line(typed) == [*passed, "job_type='a~b'"]
    assert check_command_line(["experiment=urn", "results='~/a,b'"])[1] == "results='/home/jane/a,b'"
    monkeypatch.setenv("MVHG_RESULTS_DIR", "~/results")
    monkeypatch.setenv("MVHG_DATA_DIR", "")  # as if it were not set
    monkeypatch.setattr("experiments.run.main", lambda: cell(KS))
    monkeypatch.setattr("sys.argv", ["run"])
    one = start(["experiment=urn"])
    assert (one.run.results, one.plain["data_directory"]) == (Path("/home/jane/results"), "data")


SURROUNDINGS = {
    "Slurm": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "a",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "0",
    },
    "an interactive Slurm shell": {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "1"},
    "torchrun": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "::1", "MASTER_PORT": "1"},
    "MPI": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "1"},
    "LSF": {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/none", "JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "1"},
    "Lightning": {"PL_TRAINER_LIMIT_TRAIN_BATCHES": "1", "PL_GLOBAL_SEED": "x", "PL_TRAINER_NUM_NODES": "3"},
}


@pytest.mark.parametrize("name", ["an interactive Slurm shell", "Lightning"])
def test_variables_of_a_surrounding_job_change_nothing(name: str, tmp_path: Path, alone: Path) -> None:
    single = launch("urn estimator=exact", alone)
    arguments = ["experiment=urn", "profile=smoke", "logger=disabled", f"results={tmp_path}"]
    program, environ = command(*arguments), environment() | SURROUNDINGS[name]
    done = subprocess.run(program, cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert csv_bytes(RunDirectory(tmp_path, single.row, single.path.name)) == csv_bytes(single)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_lightning_sees_nothing_of_a_surrounding_job(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SURROUNDINGS[name].items():
        monkeypatch.setenv(variable, value)
    leave_process_group()
    assert not set(SURROUNDINGS[name]) & set(os.environ)
    assert not [kind for kind in (SLURMEnvironment, TorchElasticEnvironment, LSFEnvironment) if kind.detect()]


def test_lightning_does_not_ask_mpi_which_may_end_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MPIEnvironment, "detect", lambda: pytest.fail("mpi4py was imported"))
    run = RunDirectory(tmp_path, "a", "b")
    assert RunContext(0, run, Tracker(None), {"accelerator": "cpu", "devices": 1}).trainer(max_epochs=1).world_size == 1


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("kolmogorov_smirnov/accuracy_sample", "experiment=accuracy sampler=sample"),
        (
            "kolmogorov_smirnov/draws_merged_straight_through",
            "experiment=kolmogorov_smirnov series=draws conditionals=merged sampler=straight_through",
        ),
        ("urn/squared_loss_optimum", "experiment=urn estimator=squared_loss_optimum"),
        ("disentanglement/hgvae_s5", "experiment=disentanglement method=hgvae shared=5"),
        (
            "clustering/hypergeometric_merged_60",
            "experiment=clustering prior=hypergeometric conditionals=merged version=60",
        ),
        ("clustering/uniform_full", "experiment=clustering prior=uniform version=full"),
        ("clustering_recipe/paper", "experiment=clustering recipe=vade"),
        (
            "weak_supervision_ablation/joint_bound",
            "experiment=weak_supervision method=hgvae shared=3 experiment.model.objective=joint",
        ),
        (
            "urn/exact,urn/merged",
            "experiment=urn estimator=exact; experiment=urn estimator=merged",
        ),
    ],
)
def test_a_row_of_earlier_versions_gets_the_command_that_runs_it(name: str, now: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_command_line([f"experiment={name}"])
    assert str(caught.value) == f"experiment={name} is now: {now}"
    if ";" not in now:
        check_command_line(now.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("results=2024", "results: input should be a valid string, got 2024"),
        ("conditionals=approximate", "experiment.conditionals: input should be 'exact' or 'merged', got 'approximate'"),
        ("experiment.draws=1", "experiment.draws: input should be greater than or equal to 2, got 1"),
        ("experiment.draws=many", "experiment.draws: input should be a valid integer, got 'many'"),
        ("experiment.references=[truth]", "experiment.references.0: input should be 'exact' or 'merged', got 'truth'"),
        ("experiment.series.weights.parameter=colour", "experiment.series.weights.parameter: input should be 'weight'"),
        ("experiment.series.weights.varied_group=3", "varied_group must be in 0..2, got 3"),
        ("experiment.series.weights.values=[]", "values: list should have at least 1 item"),
        ("seed=-1", "seed: input should be greater than or equal to 0, got -1"),
        ("seed=4294967296", "seed: input should be less than 4294967296, got 4294967296"),
        ("seed=one", "seed: input should be a valid integer, got 'one'"),
        ("threads=0", "threads: input should be greater than 0, got 0"),
        ("trainer.devices=2", "a run takes one device of one machine, got trainer.devices=2; give"),
        ("trainer.devices=auto", "give trainer.devices=1 or one index in brackets, trainer.devices=[1]"),
        ("trainer.devices=[0,1]", "got trainer.devices=[0, 1]; give"),
        ("force=maybe", "force: input should be a valid boolean, got 'maybe'"),
        ("job_type=guess", "job_type: input should be 'sample', 'pretrain', 'train' or 'evaluate', got 'guess'"),
        (
            "logger.mode=carrier_pigeon",
            "logger.mode: input should be 'offline', 'online' or 'disabled', got 'carrier_pigeon'",
        ),
        (
            "trainer.accelerator=abacus",
            "trainer.accelerator: input should be 'auto', 'cpu'",
        ),
        ("+trainer.max_epochs=0", "trainer: unknown key max_epochs; allowed: accelerator, devices, deterministic"),
        ("trainer.enable_progress_bar=perhaps", "trainer.enable_progress_bar: input should be a valid boolean"),
        ("tags=mine", "tags: input should be a valid list, got 'mine'"),
        ("objective=''", "objective: string should have at least 1 character, got ''"),
    ],
)
def test_an_unknown_value_is_refused_by_name(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        launch(KS, tmp_path, override)
    assert message in str(caught.value)


def test_a_chosen_device_is_not_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="draws: input should be greater"):  # what is looked at after the trainer
        launch(KS, tmp_path, "trainer.devices=[1]", "experiment.draws=0")


def test_a_results_folder_that_cannot_be_written_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"the results folder .*file/runs.* can't be written .* results=FOLDER"):
        launch(KS, tmp_path / "file")


def test_a_multirun_whose_objective_is_not_there_fails(tmp_path: Path) -> None:
    arguments = ["experiment=urn", "estimator=maximum_likelihood", "profile=smoke", "logger=disabled"]
    done = run_command("-m", *arguments, "objective=foo", f"results={tmp_path}")
    assert done.returncode == 3
    assert "error: 1 of 1 cells failed" in done.stderr and "objective=foo: no column of numbers" in done.stderr
    assert run_command("-m", *arguments, "objective=rmse", f"results={tmp_path}").returncode == 0


def test_a_multirun_writes_one_folder_per_seed_and_nothing_else(tmp_path: Path) -> None:
    before = set(CHECKOUT.iterdir())
    axes = ["experiment=kolmogorov_smirnov", "sampler=sample,straight_through", "seed=0,1"]
    done = run_command("-m", *axes, "profile=smoke", "logger=disabled", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    for sampler in ("sample", "straight_through"):
        folder = f"kolmogorov_smirnov/series=weights,conditionals=exact,sampler={sampler}"
        assert len(list((tmp_path / "runs" / folder).glob("*/finished.json"))) == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} <= {"kolmogorov_smirnov", ".multirun"}
    # What other tests and tools that run at the same time leave in a checkout.
    tools = {".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", "build", "dist", "mvhg.egg-info"}
    assert {path.name for path in CHECKOUT.iterdir()} - {path.name for path in before} <= tools
