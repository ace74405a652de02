"""Runs cells as jobs of submitit and waits for all of them, also when one dies.

Hydra's plug-in asks for the results in turn and stops at the first job without one, while the others still run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from experiments.common.errors import ExperimentError

_EVERYWHERE = {field.name for field in fields(BaseQueueConf)}


def executor(cluster: str, settings: Mapping[str, Any]) -> submitit.AutoExecutor:
    """Returns submitit's executor.

    Args:
        cluster: ``slurm`` or ``local``.
        settings: ``hydra.launcher``. Those that not every cluster has are submitit's under the cluster's name.
    """
    named = {key if key in _EVERYWHERE else f"{cluster}_{key}": value for key, value in settings.items()}
    folder = named.pop("submitit_folder")
    first = {key: named.pop(key) for key in (f"{cluster}_max_num_timeout",) if key in named}
    try:
        chosen = submitit.AutoExecutor(folder=folder, cluster=cluster, **first)
    except RuntimeError as error:  # no sbatch here
        raise ExperimentError(f"launcher={cluster}: {error}") from None
    chosen.update_parameters(**named)
    return chosen


def run_jobs(
    launcher: BaseSubmititLauncher, cluster: str, overrides: Sequence[Sequence[str]], index: int
) -> list[JobReturn]:
    """Submits one job per cell and waits until none is left; what became of the cells stands in the results store.

    Returns:
        What each cell's worker gave back.

    Raises:
        ExperimentError: there is no such cluster here.
        RuntimeError: jobs ended without a result; the first one's reason and where its log is.
        KeyboardInterrupt: after the jobs were cancelled.
    """
    numbers = range(index, index + len(overrides))
    jobs = executor(cluster, launcher.params).map_array(
        launcher,
        [list(one) for one in overrides],
        ["hydra.sweep.dir"] * len(numbers),
        numbers,
        [str(number) for number in numbers],
        [Singleton.get_state()] * len(numbers),
    )
    try:
        results = [_result(job) for job in jobs]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    for result in results:
        if isinstance(result, str):
            raise RuntimeError(result)
    return results


def _result(job: submitit.Job[Any]) -> Any:
    """What a job gave back when it ended, or why it gave back nothing, as text."""
    try:
        return job.results()[0]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        return f"job {job.job_id} left no result, see {job.paths.stderr}: {type(error).__name__}"
