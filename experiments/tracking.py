"""Weights & Biases, the only module that imports it.

Offline by default: a run needs no account, and nothing leaves the machine before ``wandb login`` and ``make
wandb-sync``. A run's id is the run id of the results store and its group the label of its row, so that a relaunch
continues the same W&B run. Host, user, command line, environment and git remote are not recorded, nor local paths.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from experiments.settings import ExperimentError, one_line

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger

    from experiments.axes import Row

_ANSWER_SECONDS = 10
_STARTING = threading.Lock()
STEP = "trainer/global_step"  # Lightning's name of the step metric
SUPERSEDED = "superseded-run"  # how the folder of an offline run begins whose numbers were made anew
# Places, and how it was launched.
_NOT_LOGGED = ("axes", "data_directory", "force", "logger", "objective", "results", "runs_at_once")
_SETTINGS: dict[str, Any] = {  # which keep the machine and its user out of what is logged
    "silent": True,
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "disable_job_creation": True,
    "init_timeout": 30,
    "host": "",
    "username": "",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class Tracker:
    """Hands the Lightning logger to the trainers and takes the rest; does nothing when tracking is disabled.

    Args:
        logger: Lightning's, of an open run; None when tracking is disabled.
        artifacts: Whether files are logged.
    """

    def __init__(self, logger: WandbLogger | None, artifacts: bool = False) -> None:
        self.logger = logger
        self.artifacts = artifacts

    def define_metrics(self, summaries: Mapping[str, str]) -> None:
        """Declares headline metrics: name -> which value the summary keeps (min, max, mean, last)."""
        if self.logger is not None:
            for name, summary in summaries.items():
                self.logger.experiment.define_metric(name, step_metric=STEP, step_sync=True, summary=summary)

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Writes values into the run's summary."""
        if self.logger is not None:
            self.logger.experiment.summary.update(dict(values))

    def log_facts(self, facts: Mapping[str, Any]) -> None:
        """Writes what is known at the end (code, machine, time) beside the configuration, as ``environment``."""
        if self.logger is not None:
            self.logger.experiment.config.update({"environment": dict(facts)}, allow_val_change=True)

    def log_files(self, name: str, kind: str, files: Sequence[Path]) -> None:
        """Logs files as one artifact. They are not copied: they must stay where they are until the run is synced.

        Args:
            name: Of the artifact.
            kind: Its type, ``results``, ``figures`` or ``model``.
            files: At least one; their names must differ.
        """
        if self.logger is None or not self.artifacts:
            return
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        for file in files:
            artifact.add_file(str(file.resolve()), name=file.name, policy="immutable", skip_cache=True)
        self.logger.experiment.log_artifact(artifact)

    def log_images(self, images: Mapping[str, Path]) -> None:
        """Logs pictures: name -> file."""
        if self.logger is not None:
            import wandb

            pictures = {name: wandb.Image(str(file), caption=file.stem) for name, file in images.items()}
            self.logger.experiment.log(pictures)


def tracked_config(config: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Returns what W&B shows as the configuration of a run: the experiment's settings, and what runs are grouped by.

    Returns:
        ``config`` without local paths, with the profile's name instead of its section, and with ``experiment_name``,
        each axis and ``changes``.
    """
    kept = {key: value for key, value in config.items() if key not in _NOT_LOGGED}
    facts = {"experiment_name": row.experiment, "changes": row.changes, "profile": config["profile"]["name"]}
    return kept | dict(row.axes) | facts


@contextmanager
def track(
    results: Path,
    *,
    mode: str,
    project: str,
    artifacts: bool,
    group: str,
    run_id: str,
    resumed: bool = False,
    **shown: Any,
) -> Iterator[Tracker]:
    """Opens a W&B run for the block and finishes it whatever happens.

    Args:
        results: W&B writes under ``<results>/wandb``.
        mode: ``offline``, ``online`` or ``disabled``.
        project: W&B project.
        artifacts: Whether tables and models are logged, too.
        group: Label of the row.
        run_id: The run's id.
        resumed: Whether the run goes on from a checkpoint; if not, what was logged under its id before is superseded.
        shown: What ``wandb.init`` takes beside that: ``name``, ``job_type``, ``tags``, ``config``.

    Raises:
        ExperimentError: W&B refuses to start: no login, or no network.
        OSError: the folder can't be made.
    """
    if mode == "disabled":
        yield Tracker(None)
        return
    (results / "wandb").mkdir(parents=True, exist_ok=True)  # W&B would take the folder of temporary files instead
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at wandb's import: no crash reports either
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    earlier = [] if resumed else sorted((results / "wandb").glob(f"offline-run-*-{run_id}"))
    try:
        with _STARTING:
            run = wandb.init(
                project=project,
                group=group,
                id=None if "WANDB_SWEEP_ID" in os.environ else run_id,  # an agent of W&B has given an id
                dir=results,
                mode=cast(Literal["offline", "online"], mode),
                resume="allow" if mode == "online" and resumed else None,  # without it a run of this id is replaced
                reinit="create_new",  # other runs of this process go on
                settings=wandb.Settings(**_SETTINGS),
                **shown,
            )
    except (wandb.errors.Error, ValueError) as error:  # ValueError: a tag or a variable that it doesn't take
        reason = one_line(error)[:200].rstrip(".")
        raise ExperimentError(
            f"W&B did not start, and so neither did the run ({reason}); `wandb login` stores a key, "
            "logger=offline needs neither login nor network and `make wandb-sync` uploads its runs later"
        ) from None
    for folder in earlier:
        folder.rename(folder.with_name(folder.name.replace("offline-run", SUPERSEDED, 1)))
    exit_code = 1
    try:
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        yield Tracker(WandbLogger(experiment=run, save_dir=results), artifacts)
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)


def logged_in() -> bool:
    """Whether W&B has a key or another way to authenticate; asks nothing, and no server.

    Raises:
        ExperimentError: W&B refuses its own variables.
    """
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except (wandb.errors.Error, TypeError):  # TypeError: an older wandb without `prompt`
        return False
    except ValueError as error:
        raise ExperimentError(f"W&B refuses a variable WANDB_... of this shell: {one_line(error)[:200]}") from None


def runs_to_sync(results: Path) -> list[Path]:
    """Returns the folders of offline runs that are neither uploaded nor still written to, in order of their start."""
    logs = sorted((results / "wandb").glob("offline-run-*/run-*.wandb"))
    waiting = [log for log in logs if not log.with_suffix(".wandb.synced").exists()]
    return [log.parent for log in waiting if not _is_claimed(results, log.stem.removeprefix("run-"))]


def _is_claimed(results: Path, run_id: str) -> bool:
    """Whether a process works on a run."""
    import filelock

    for path in (results / "runs").glob(f"*/*/{run_id}/.lock"):
        try:
            with filelock.FileLock(path, timeout=0):
                pass
        except filelock.Timeout:
            return True
    return False


def require_server() -> None:
    """Asks W&B's server for an answer, since the client waits for one without an end.

    Raises:
        ExperimentError: there is none.
    """
    import requests
    import wandb

    address = wandb.setup().settings.base_url
    try:
        requests.head(address, timeout=_ANSWER_SECONDS)
    except requests.RequestException:
        raise ExperimentError(f"W&B does not answer at {address}: no network? The same command tries again") from None
