"""Weights & Biases, the only module that imports it.

Offline by default: a run needs no account, and nothing leaves the machine before the user runs ``wandb login`` and
``wandb sync`` (or ``make wandb-sync``). A run's group is its row key and its id the run id, so that a relaunch
continues the same W&B run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from experiments.common.errors import ExperimentError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger

MODES = ("offline", "online", "disabled")


class Tracker:
    """Hands the Lightning logger to the trainers and takes the summary; does nothing when tracking is disabled."""

    def __init__(self, logger: WandbLogger | None) -> None:
        self.logger = logger

    def define_metrics(self, summaries: Mapping[str, str]) -> None:
        """Declares headline metrics: name -> which value the summary keeps (min, max, mean, last)."""
        if self.logger is not None:
            for name, summary in summaries.items():
                self.logger.experiment.define_metric(name, summary=summary)

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Writes values into the run's summary."""
        if self.logger is not None:
            self.logger.experiment.summary.update(dict(values))


@contextmanager
def track(
    *,
    mode: str,
    project: str,
    row: str,
    run_id: str,
    seed: int,
    job_type: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
    results: Path,
) -> Iterator[Tracker]:
    """Opens a W&B run for the block and finishes it whatever happens.

    Args:
        mode: ``offline``, ``online`` or ``disabled``.
        project: W&B project.
        row: Row key, the run's group.
        run_id: The run's id.
        seed: Part of the run's display name.
        job_type: ``sample``, ``pretrain``, ``train`` or ``evaluate``.
        tags: For example ``figure-1``.
        config: The resolved configuration, shown beside the run.
        results: W&B writes under ``<results>/wandb``.
    """
    if mode not in MODES:
        raise ExperimentError(f"logger.mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "disabled":
        yield Tracker(None)
        return
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at wandb's import: no crash reports either
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    run = wandb.init(
        project=project,
        name=f"{row}-seed{seed}",
        group=row,
        id=run_id,
        job_type=job_type,
        tags=list(tags),
        config=dict(config),
        dir=results,
        mode=cast(Literal["offline", "online"], mode),
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
    )
    exit_code = 1
    try:
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        yield Tracker(WandbLogger(experiment=run, save_dir=results))
        exit_code = 0
    finally:
        wandb.finish(exit_code=exit_code)
