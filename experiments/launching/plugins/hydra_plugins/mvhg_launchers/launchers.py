"""Hydra's launchers, each with what experiments.launching adds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher

from experiments.launching.launcher import CellLauncher


class Serial(CellLauncher, BasicLauncher):
    """One cell after the other, in this process."""

    in_process = True


class Local(CellLauncher, JoblibLauncher):
    """Several processes of this machine. One that is killed takes joblib's pool with it."""

    shared_fate = True


class _Slurm(SlurmLauncher):
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from experiments.launching.submitit_jobs import run_jobs

        return run_jobs(self, "slurm", job_overrides, initial_job_idx)


class _SlurmLocal(LocalLauncher):
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from experiments.launching.submitit_jobs import run_jobs

        return run_jobs(self, "local", job_overrides, initial_job_idx)


class Slurm(CellLauncher, _Slurm):
    """A Slurm array with one job per cell."""


class SlurmLocal(CellLauncher, _SlurmLocal):
    """The same as Slurm, on this machine without a queue: to try it."""


if find_spec("hydra_plugins.hydra_ray_launcher") is not None:
    from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher

    class _Ray(RayLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            import ray

            try:
                return super().launch(job_overrides, initial_job_idx)
            except BaseException:
                ray.shutdown()  # or the other cells would go on beside their second attempts
                raise

    class Ray(CellLauncher, _Ray):
        """Ray's workers, on this machine or a cluster."""

        shared_fate = True
