"""What this project's launchers do around Hydra's: skip what is finished, say how far it is, survive dead workers."""

from __future__ import annotations

import copy
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.common import attempts
from experiments.common.errors import ExperimentError
from experiments.common.reproducibility import project_version
from experiments.common.skipping import FIRST_VERSION
from experiments.launching.cell import Cell
from experiments.launching.composition import Composition
from experiments.launching.progress import Progress

FEW = 3  # finished cells that are named one by one


class CellLauncher(Launcher):
    """To be put before one of Hydra's launchers among the bases of a class.

    A cell whose process dies is tried twice. Where a dying worker takes the others with it (``shared_fate``), those
    that were running are tried again one at a time, so that the one that dies is known and the others are done.
    """

    shared_fate = False
    in_process = False  # the cells run in this process, so that its end is theirs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes in what Hydra hands over, and lets its sweeper compose through the same memory."""
        loader = hydra_context.config_loader
        workers = HydraContext(config_loader=copy.copy(loader), callbacks=hydra_context.callbacks)
        super().setup(hydra_context=workers, task_function=task_function, config=config)  # type: ignore[safe-super]
        self._master = config
        self._composition = Composition(loader)
        loader.load_sweep_config = self._composition.load_sweep_config  # type: ignore[method-assign]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs what is not finished.

        Returns:
            One answer per job, of finished cells the objective.

        Raises:
            SystemExit: cells failed, more than the sweeper tolerates; the message names them.
        """
        cells: list[Cell] = []
        by_run: dict[Path, Cell] = {}
        for overrides in job_overrides:
            cell = self._composition.cell(self._master, overrides)
            if cell.run is not None:  # the same run, asked for twice, is one cell
                cell = by_run.setdefault(cell.run.path, cell)
            cell.verify()
            cells.append(cell)
        _say_finished(cells)
        waiting = [cell for cell in by_run.values() if cell.waits]
        if waiting:
            self._run(waiting, cells, initial_job_idx)
        answers = [cell.job_return() for cell in cells]
        self._report(cells)
        return answers

    def _run(self, waiting: list[Cell], cells: Sequence[Cell], index: int) -> None:
        with Progress(cells, self._processes(len(waiting))):
            try:
                while waiting:
                    again = [cell for cell in waiting if cell.attempts]
                    alone = self.shared_fate and bool(again)
                    for batch in [[cell] for cell in again] if alone else [waiting]:
                        self._attempt(batch, index)
                    waiting = [cell for cell in waiting if cell.waits]
            except KeyboardInterrupt:
                print("interrupted; the same command continues from the last checkpoints", flush=True)
                sys.exit(130)

    def _processes(self, waiting: int) -> int:
        """How many cells run at a time, as far as the configuration says."""
        keys = ("n_jobs", "array_parallelism")
        limits = [OmegaConf.select(self._master, f"hydra.launcher.{key}") for key in keys]
        limit = next((int(value) for value in limits if value), 1)
        return min(limit if limit > 0 else os.cpu_count() or 1, waiting)

    def _attempt(self, batch: Sequence[Cell], index: int) -> None:
        for cell in batch:
            assert cell.run is not None
            attempts.forget(cell.run)
        trouble = ""
        answers: Sequence[JobReturn | None] = [None] * len(batch)
        try:
            answers = super().launch([list(cell.overrides) for cell in batch], index)  # type: ignore[safe-super]
        except ExperimentError as error:  # the launcher's own: it can't work here
            for cell in batch:
                cell.reason = str(error)
            return
        except (Exception, SystemExit) as error:  # whatever the pool, the queue or a worker that ends may raise
            if self.in_process:
                raise
            trouble = (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0]
        started_any = any(cell.finished or (cell.run and attempts.read(cell.run)) for cell in batch)
        for cell, answer in zip(batch, answers, strict=True):
            cell.settle(answer, trouble, started_any)
        died = [cell.name for cell in batch if cell.waits and cell.attempts]
        if died:
            print(f"a process died ({trouble or 'no result'}); tried again: {', '.join(died)}", flush=True)

    def _report(self, cells: Sequence[Cell]) -> None:
        failed = [cell for cell in cells if cell.reason is not None]
        if not failed:
            return
        lines = "".join(f"\n  {cell.name}: {cell.reason}" for cell in failed)
        message = f"{len(failed)} of {len(cells)} cells failed:{lines}"
        tolerated = float(OmegaConf.select(self._master, "hydra.sweeper.max_failure_rate") or 0)
        if len(failed) > tolerated * len(cells):
            sys.exit(f"error: {message}")
        print(message, flush=True)


def _say_finished(cells: Sequence[Cell]) -> None:
    cells = [cell for cell in cells if cell.reason is None]  # one that is damaged is named with the failed
    finished = [cell.run for cell in cells if cell.run is not None and cell.finished]
    if not finished:
        return
    facts = [run.environment() for run in finished]
    version = project_version()
    others = Counter(str(one.get("version", FIRST_VERSION)) for one in facts)
    del others[version]
    print(f"{len(finished)} of {len(cells)} cells are finished already, skipped", flush=True)
    for other, count in sorted(others.items()):
        print(f"  {count} of them by version {other} (this is {version}); force=true runs them again", flush=True)
    if len(finished) <= FEW:
        for cell in cells:
            if cell.run is not None and cell.finished:
                commit = cell.run.environment()["commit"]
                print(f"  {cell.name}: finished at commit {commit:.10}, skipped ({cell.run.path})", flush=True)
