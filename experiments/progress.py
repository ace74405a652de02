"""Says how far a multirun is, what failed and how to go on, under every launcher: a callback of Hydra's.

It lives in the process that was started and asks the results store, where workers, here or on other machines, leave
what became of their cells. Where all cells are finished nothing is launched, and nothing heavy imported.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from experiments import cell_process
from experiments.axes import cell_of
from experiments.settings import ExperimentError, one_line
from experiments.watched import Watched, in_words, read_reports, say_finished, seconds_left

POLL_SECONDS, SAY_SECONDS = 1.0, 30.0  # from one look at the store to the next; from one line to the next
CELLS_FAILED = 3  # the status; that of a command that is refused is 1
AGAIN = (
    "the same command, without force=true, goes on: finished cells are skipped, interrupted ones continue from their "
    "last checkpoint"
)


class Progress(Callback):
    """Prints a line when a count changes, and one every half minute; ends with status 3 if cells failed."""

    current: Progress | None = None  # of the multirun that this process started

    def __init__(self) -> None:
        self.cells: list[Watched] = []
        self.total = 0
        self._most = 0  # cells that were seen at work at once
        self._search = False  # whether the cells come one by one, from a search

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Finds the cells, says which are finished, and begins to watch."""
        Progress.current = self
        logging.getLogger("hydra").setLevel(logging.WARNING)  # its launchers name every cell, as cells do
        self._folder = Path(config.hydra.sweep.dir)
        self._jobs = Path(OmegaConf.select(config, "hydra.launcher.submitit_folder") or self._folder / "none").parent
        self._search = not str(config.hydra.sweeper._target_).endswith("BasicSweeper")
        if self._search:
            if config.objective is None:
                sys.exit("error: objective=null: a search needs a column to go by, such as objective=metrics.rmse")
            self.total = int(config.hydra.sweeper.n_trials)
            if min(self.total, int(config.hydra.sweeper.n_jobs)) < 1:
                sys.exit("error: hydra.sweeper: n_trials and n_jobs must be at least 1")
        else:
            try:
                grid = list(_cells(config))
            except Exception as error:  # which Hydra would take for this callback's own, and end with status 0
                sys.exit(f"error: {_in_one_line(error)}")
            self.cells = [cell for _, cell in grid]
            self.total = len(self.cells)
            say_finished(self.cells)
            left = [overrides for overrides, cell in grid if not cell.finished]
            if not left:
                sys.exit(0)
            _launch_only(left)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Waits for cells that are still at work, and names the failed ones.

        Raises:
            SystemExit: there are some, and it was no search, which goes on without them.
        """
        cell_process.wait()
        self.stop()
        failed = [f"\n  {cell.name}: {cell.reason}" for cell in self.cells if cell.reason]
        if failed:
            message = f"{len(failed)} of {self.total} cells failed:{''.join(failed)}\n{AGAIN}"
            if not self._search:
                print(f"error: {message}", file=sys.stderr)
                sys.exit(CELLS_FAILED)
            print(message, flush=True)
        elif not (self._folder / "optimization_results.yaml").exists():
            shutil.rmtree(self._folder, ignore_errors=True)

    def give_up(self, error: Exception) -> None:
        """Says in a line per cell what is left where the launcher itself failed, a worker of it was killed say.

        Raises:
            SystemExit: always.
        """
        self.stop()
        why = (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0].rstrip(".")
        left = [cell for cell in self.cells if not cell.finished]
        lines = [f"\n  {cell.name}: {cell.reason or (cell.started and 'lost') or 'not started'}" for cell in left]
        count = f"{len(left)} of {self.total} cells are left"
        sys.exit(f"error: the launcher gave up ({why}); {count}:{''.join(lines)}\n{AGAIN}")

    def line(self) -> str:
        """Returns the state, say ``12 of 58 cells finished, 1 failed, about 9 minutes left``."""
        read_reports(self._folder, self.cells)
        finished, failed = sum(cell.finished for cell in self.cells), sum(bool(cell.reason) for cell in self.cells)
        parts = [f"{finished} of {self.total} cells finished"]
        if failed:
            parts.append(f"{failed} failed")
        if finished + failed < self.total:
            self._most = max(self._most, sum(cell.at_work for cell in self.cells))
            seconds = seconds_left(self.cells, self.total, max(1, self._most))
            parts += [] if seconds is None else [f"about {in_words(seconds)} left"]
        return ", ".join(parts)

    def _watch(self) -> None:
        counts, said = "", 0.0
        while not self._stop.wait(POLL_SECONDS):
            line = self.line()
            if line.partition(", about")[0] != counts or time.monotonic() - said >= SAY_SECONDS:
                print(line, flush=True)
                counts, said = line.partition(", about")[0], time.monotonic()

    def stop(self) -> None:
        """Ends the watching with a last line."""
        self._stop.set()
        self._thread.join()
        print(self.line(), flush=True)

    def cancel(self) -> None:
        """Takes the jobs of this multirun out of Slurm's queue; submitit has a folder for each."""
        jobs = [path.name for path in self._jobs.glob("[0-9]*") if path.is_dir()]
        if jobs and shutil.which("scancel"):
            subprocess.run(["scancel", *jobs], check=False)

    def __getstate__(self) -> dict[str, Any]:
        """Workers need nothing of it."""
        return {}


def _launch_only(grid: list[list[str]]) -> None:
    """Lets Hydra launch these cells, which compose, instead of the whole grid after composing it a second time."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # loaded anew when Hydra looks for plugins

    sweeper: Any = BasicSweeper
    sweeper.split_arguments = staticmethod(lambda *_: [grid])
    sweeper.validate_batch_is_legal = lambda *_: None


def _cells(config: DictConfig) -> Iterator[tuple[list[str], Watched]]:
    """Yields overrides and cell of a grid, every cell once; those that differ in the seed alone are composed once.

    Raises:
        SystemExit: there are none, or one does not compose.
    """
    loader = GlobalHydra.instance().config_loader()
    params = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True) if config.hydra.sweeper.params else {}
    assert isinstance(params, dict)
    arguments = [f"{key!s}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=loader)
    [grid] = BasicSweeper.split_arguments(parser.parse_overrides(arguments), None)
    if not grid:
        sys.exit("error: this command asks for no run: a choice, range or glob in it is empty")
    composed: dict[tuple[str, ...], DictConfig] = {}
    seen: set[Path] = set()
    for overrides in grid:
        key = tuple(one for one in overrides if not one.startswith("seed="))
        if key not in composed:
            composed[key] = loader.load_sweep_config(config, overrides)
        whole = composed[key]
        own = copy.copy(whole)
        with read_write(own), open_dict(own):
            del own["hydra"]
            for one in overrides:
                if one.startswith("seed="):
                    own.seed = parser.parse_override(one).value()
        try:
            cell = cell_of(own, str(whole.hydra.runtime.choices["experiment"]), overrides)
        except ExperimentError as error:
            yield overrides, Watched(" ".join(overrides), reason=one_line(error))
            continue
        if cell.run.path not in seen:
            seen.add(cell.run.path)
            yield overrides, Watched(cell.name, cell.run, cell.plain["force"])


def _in_one_line(error: Exception) -> str:
    if not isinstance(error, HydraException | OmegaConfBaseException | ExperimentError):  # what nobody foresaw
        return f"{type(error).__name__}: {one_line(error)}"
    causes = (error, error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else (error,)
    text = ": ".join(str(cause).splitlines()[0].rstrip(".") for cause in causes)
    if "is not in struct" in text:  # a setting that there isn't
        text += "; the command without it, and with -c job, shows all that there are"
    return text


@contextmanager
def reported() -> Iterator[None]:
    """Ends in a few lines where Hydra or a launcher would end with a stack trace.

    Raises:
        SystemExit: for every error that says what is wrong with the command, and at the end of a multirun that failed.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {_in_one_line(error)}")
    except KeyboardInterrupt:
        if Progress.current is not None:
            Progress.current.cancel()
        print(f"interrupted; {AGAIN}", flush=True)
        sys.exit(130)
    except Exception as error:
        if Progress.current is not None:
            Progress.current.give_up(error)
        if isinstance(error, OSError):  # of the folders that Hydra makes
            sys.exit(f"error: {error.filename}: {error.strerror or error}")
        raise
