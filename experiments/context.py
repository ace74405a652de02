"""What a running experiment gets: seeds, a folder, trainers and the summary."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from experiments.captured_steps import SharedGPU
from experiments.settings import ExperimentError, one_line
from experiments.store import RunDirectory, read_tensors, readable_checkpoint, write_tensors
from experiments.training import STATE, ChunkedTraining, EndWithProcess, derive_seed

if TYPE_CHECKING:
    from experiments.tracking import Tracker


# Name -> Lightning's. TF32 is float32 whose products a GPU rounds to 10 bits; bf16 is for the wide layers alone.
PRECISIONS = {"float32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}
# Idle settings of experiments that train nothing.
TRAINING_ALONE = frozenset({"trainer.precision", "trainer.deterministic"})


class Experiment(Protocol):
    """What ``experiment._target_`` names: settings come through the constructor, by keyword; ``run`` does the work.

    Five things are optional:

    - ``headline_metrics``: name of a logged metric -> which of its values the W&B summary keeps (``min``, ``max``,
      ``mean`` or ``last``);
    - ``idle_settings``: settings below ``experiment``, or of the trainer, that nothing reads beside the others, such as
      temperatures of a method that relaxes nothing; a command that gives one is refused;
    - ``idle_changes(replaced: Mapping[str, Any]) -> set[str]``: which of the changed settings, given with the values
      that they have unchanged, leave the numbers as they are; refused alike;
    - ``one_seed_tables``, of the class: names of the large tables of which the collected results take the lowest seed;
    - ``keep_lines(table: str, row: Row, lines: DataFrame) -> DataFrame | None``, static: which lines of a run's table
      the collected results take; None or an empty frame for none.
    """

    def run(self, context: RunContext) -> dict[str, pd.DataFrame]:
        """Returns tidy tables by name; ``metrics`` is required.

        Tables don't repeat the axes, which the collected results put before, and hold nothing of the clock.
        """
        ...


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints within their folder: Lightning's own writing goes by way of the system's temporary one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_tensors(Path(path), checkpoint)


class RunContext:
    """Everything an experiment may use of its surroundings.

    Attributes:
        seed: The run's seed.
        run: The run's folder in the results store.
        axes: The run's place among those of its experiment: axis -> value.
        changed: Names of the settings that are not the experiment's own.
        data_directory: Where data files are looked for and downloaded to.
        afresh: Whether nothing that was interrupted is gone on with.
        is_training: Whether a training is at work, which Lightning ends on a signal.
        went_on: Whether a training went on from a checkpoint, that of a start which runs share included.
    """

    def __init__(
        self,
        seed: int,
        run: RunDirectory,
        tracker: Tracker,
        trainer: Mapping[str, Any],
        data_directory: Path = Path("data"),
        axes: Mapping[str, str | int] | None = None,
        changed: Collection[str] = (),
        afresh: bool = False,
    ) -> None:
        self.seed = seed
        self.run = run
        self.axes = dict(axes or {})
        self.changed = frozenset(changed)
        self.data_directory = data_directory
        self.afresh = afresh
        self._tracker = tracker
        self.is_training = self.went_on = False
        self._trainer = dict(trainer)

    @property
    def directory(self) -> Path:
        """Folder for checkpoints and whatever must survive an interruption; emptied by ``force=true``."""
        return self.run.checkpoints

    @property
    def cache(self) -> Path:
        """Folder for what several runs share, under a name that is a hash of what decides it."""
        return self.run.results / "cache"

    @property
    def precision(self) -> str:
        """The trainer's, as Lightning calls it, for example ``32-true``."""
        return PRECISIONS[self._trainer.get("precision", "float32")]

    @property
    def numerics(self) -> dict[str, Any]:
        """What of the trainer decides the numbers of a training."""
        return {name: self._trainer.get(name) for name in ("accelerator", "precision", "deterministic")}

    @property
    def accelerator(self) -> str:
        """``cpu`` or ``gpu``, say, as the trainer is told."""
        return str(self._trainer.get("accelerator", "auto"))

    def save_model(self, state: Mapping[str, torch.Tensor]) -> None:
        """Keeps a trained model's weights, as ``model.pt`` in the run's folder when it is finished."""
        write_tensors(self.run.new_model, {name: value.detach().cpu() for name, value in state.items()})

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keeps tensors and plain values to go on from where no trainer does; see ``load_checkpoint``."""
        write_tensors(self.directory / "last.ckpt", state)

    def load_checkpoint(self, *needed: str) -> dict[str, Any] | None:
        """The last of ``save_checkpoint`` of an interrupted run, with the keys ``needed``; None if there is none."""
        path = readable_checkpoint(self.directory / "last.ckpt", needed)
        return None if path is None else read_tensors(path)

    def generator(self, offset: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
        """Returns a generator seeded by the run's seed; each offset has its own stream."""
        return torch.Generator(device).manual_seed(derive_seed(self.seed, offset))

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Writes headline numbers into the W&B summary."""
        self._tracker.log_summary(values)

    def fit(
        self,
        model: pl.LightningModule,
        loader: Iterable[Any],
        *,
        max_epochs: int,
        folder: Path | None = None,
        checkpoint_every: int = 1,
        callbacks: Sequence[pl.Callback] = (),
        **settings: Any,
    ) -> None:
        """Trains, or goes on from the last checkpoint.

        Args:
            model: What is trained.
            loader: Its batches.
            max_epochs: In all.
            folder: Of the checkpoints, if not ``directory``.
            checkpoint_every: Epochs between two; within one, a data loader does not know where it stopped.
            callbacks: Further ones.
            settings: Of the trainer; they win over the configuration's.

        Raises:
            ExperimentError: the checkpoint is whole and does not fit the model, which other code has made.
            KeyboardInterrupt: it was stopped from outside.
        """
        folder = folder or self.directory
        keeping = ModelCheckpoint(
            folder,
            filename="last",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            every_n_epochs=checkpoint_every,
        )
        trainer = self.trainer(max_epochs=max_epochs, callbacks=[keeping, *callbacks, EndWithProcess()], **settings)
        if isinstance(model, ChunkedTraining):
            model.graph = bool(self._trainer.get("graph"))
        needed = {"state_dict", "loops", "optimizer_states"}
        if isinstance(model, ChunkedTraining):
            needed.add(STATE)
        checkpoint = readable_checkpoint(folder / "last.ckpt", needed)
        self.went_on |= checkpoint is not None
        self.is_training = True
        try:
            trainer.fit(model, loader, ckpt_path=checkpoint, weights_only=True)
        except SIGTERMException:
            raise
        except SystemExit:  # Lightning's answer to Ctrl-C, with a status that says nothing
            if not trainer.interrupted:
                raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
            if not names & {"load_state_dict", "on_load_checkpoint"}:
                raise
            reason = one_line(error)[:200]
            raise ExperimentError(
                f"{checkpoint} was made by other code and can't be continued by this ({reason}); go on with the code "
                "that the run started with, or start over with force=true"
            ) from error
        finally:
            self.is_training = False
        if trainer.interrupted:
            raise KeyboardInterrupt

    def trainer(self, callbacks: Sequence[pl.Callback] = (), **settings: Any) -> pl.Trainer:
        """Returns a Lightning trainer that logs to the run; ``settings`` win over the section ``trainer``."""
        # The data of these experiments are made in memory: worker processes would cost more than they bring.
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message="GPU available but not used.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning with a newer torch
        # A run that continues finds its own checkpoint there.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        tf32 = self._trainer.get("precision") == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        chosen = {
            "logger": self._tracker.logger or False,
            "default_root_dir": self.directory,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            **{key: value for key, value in self._trainer.items() if key != "graph"},
            "precision": self.precision,
            # A run is one process: else Lightning asks MPI, which may end it.
            "plugins": [LightningEnvironment(), AtomicCheckpoints()],
            **settings,
        }
        if self.accelerator in ("gpu", "cuda") and SharedGPU.is_available():
            chosen["accelerator"] = SharedGPU()
        try:
            trainer = pl.Trainer(callbacks=list(callbacks), **chosen)
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ExperimentError(f"trainer: {error}") from error
        # A debugging aid of the deterministic mode that takes a tenth of a step; nothing here reads unwritten memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return trainer
