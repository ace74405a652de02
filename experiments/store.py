"""The results store: one folder per run, written so that a killed process never leaves half a result.

``<results>/runs/<experiment>/<axes>/<run id>/`` holds ``config.yaml``, one ``<table>.csv`` per table,
``environment.json``, ``checkpoints/`` and, written last, ``finished.json`` with the hash of every other file. A run is
finished when that marker is there; it is replaced only by another finished run. Whether a run is finished is asked of
hundreds at once, so pandas and torch are imported where they are used.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from experiments.settings import ExperimentError, one_line

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("experiments")

FINISHED = "finished.json"
ENVIRONMENT = "environment.json"
CONFIG = "config.yaml"
STAGED = ".next"  # folder of a result that is being written
MODEL = "model.pt"
TRAINED_AT = (
    "trained_at"  # among the checkpoints: when the training will have ended by its own rate, seconds of the epoch
)
CODE = "code.json"  # likewise: commits that were at work on the run
FAILURE = "failure.txt"  # likewise: why the run failed
LOCK_SECONDS = 2.0  # those who only ask whether a run is at work hold its lock for a moment


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part of it."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values likewise, as ``torch.load`` reads them."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def read_tensors(path: Path, needed: Collection[str] = ()) -> dict[str, Any]:
    """Reads what ``write_tensors`` has written, onto the CPU.

    Args:
        path: Of the file.
        needed: Keys that it must have.

    Raises:
        OSError: the file can't be read.
        ValueError: it is damaged, lacks a key, or holds more than tensors and plain values; one line says which.
    """
    import torch

    content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            altered = archive.testzip()  # torch.load looks at no checksum
        content.seek(0)
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # half a dozen types, some without a word
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error
    if altered is not None:
        raise ValueError(f"its part {altered} does not fit its checksum")
    lacking = sorted(set(needed).difference(found if isinstance(found, dict) else ()))
    if lacking or not isinstance(found, dict):
        raise ValueError(f"it lacks {', '.join(lacking) or 'names'}")
    return found


@contextmanager
def alone(lock_file: Path, what: str, *, patience: float = 0.0, wait: bool = True) -> Iterator[None]:
    """Keeps other processes out while the block runs.

    Args:
        lock_file: Says which.
        what: What another one does, for messages.
        patience: Seconds until another one is spoken of, since some only look.
        wait: Whether to wait for it.

    Raises:
        ExperimentError: another one is there, and it is not waited for.
    """
    import filelock

    lock = filelock.FileLock(lock_file)
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout:
        if not wait:
            raise ExperimentError(f"another process is {what}: {lock_file.parent}") from None
        log.info("another process is %s, waiting for it: %s", what, lock_file.parent)
        lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        lock.release()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class RunDirectory:
    """The folder of one run.

    Args:
        results: The results folder; runs live under ``runs/``.
        row: Folder of its row, for example ``urn/estimator=exact``.
        run_id: Hash of what decides the numbers.
    """

    def __init__(self, results: Path, row: str, run_id: str) -> None:
        self.results = results
        self.row = row
        self.path = results / "runs" / row / run_id
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / MODEL  # where a row keeps one
        self.new_model = self.checkpoints / MODEL  # of a run that is not finished
        self.new_config = self.checkpoints / CONFIG  # likewise

    @contextmanager
    def claim(self, wait: bool = False) -> Iterator[None]:
        """Creates the folder and keeps a second process out while the block runs.

        Args:
            wait: Whether to wait for another process that works in it.

        Raises:
            ExperimentError: the folder can't be written, or another process works in it.
        """
        with ExitStack() as held:
            try:
                self.checkpoints.mkdir(parents=True, exist_ok=True)
                lock = alone(self.path / ".lock", "working on this run", patience=LOCK_SECONDS, wait=wait)
                held.enter_context(lock)
            except OSError as error:
                raise ExperimentError(
                    f"the results folder {self.path} can't be written ({error.strerror}); "
                    "choose another one with results=FOLDER or MVHG_RESULTS_DIR"
                ) from None
            self._move_into_place()
            yield

    @property
    def finished_at(self) -> float | None:
        """When the run was finished, seconds of the epoch; None if it is not. No file is checked."""
        try:
            return (self.path / FINISHED).stat().st_mtime
        except OSError:
            return None

    def trained_at(self, since: float) -> float | None:
        """When the training that runs will have ended, by its own rate; None if it has not said so.

        Args:
            since: When the run was begun; what is older is not its word.
        """
        path = self.checkpoints / TRAINED_AT
        try:
            return float(path.read_text()) if path.stat().st_mtime >= since else None
        except (OSError, ValueError):
            return None

    def finished(self) -> dict[str, Any] | None:
        """Returns the content of the finished marker after checking every file against it; None if not finished.

        Raises:
            ExperimentError: the marker or a file it names is missing, unreadable or altered.
        """
        self._move_into_place()
        marker = self.path / FINISHED
        if not marker.exists():
            return None
        try:
            content: dict[str, Any] = json.loads(marker.read_text())
            files = dict(content["files"])
            if not {CONFIG, ENVIRONMENT} <= files.keys():
                raise ValueError("it names no result")
            for name, digest in files.items():
                file = self.path / name
                if not file.is_file() or file_digest(file) != digest:
                    state = "was changed after the run wrote it" if file.is_file() else "is missing"
                    raise ExperimentError(f"{file} {state}; force=true runs it again")
        except (ValueError, KeyError, TypeError):
            raise ExperimentError(f"{marker} is damaged; force=true runs it again") from None
        except OSError as error:
            raise ExperimentError(f"{error.filename or marker} can't be read ({error.strerror})") from None
        return content

    def finish(self, tables: Mapping[str, pd.DataFrame], environment: Mapping[str, Any], config: str) -> None:
        """Writes the tables, the environment, the configuration and a model that was kept, and last the marker.

        All of it into a folder of its own, to be moved into place when it is whole: a process that is killed before
        leaves an earlier result as it was, one that is killed later a result that the next reader moves.
        """
        contents = {f"{name}.csv": table.to_csv(index=False, lineterminator="\n") for name, table in tables.items()}
        contents[ENVIRONMENT] = json.dumps(environment, indent=2) + "\n"
        contents[CONFIG] = config
        staged = self.path / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, content in contents.items():
            write_atomically(staged / name, content)
        if self.new_model.is_file():
            os.replace(self.new_model, staged / MODEL)
        files = {path.name: file_digest(path) for path in sorted(staged.iterdir())}
        write_atomically(staged / FINISHED, json.dumps({"files": files}, indent=2) + "\n")
        self._move_into_place()

    def _move_into_place(self) -> None:
        """Makes a result that is whole the run's; two processes may do so at once."""
        staged = self.path / STAGED
        try:
            files = dict(json.loads((staged / FINISHED).read_text())["files"])
            for name, digest in files.items():
                with suppress(FileNotFoundError):  # moved already
                    if file_digest(staged / name) != digest:
                        return
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or none that is whole
            return
        for name in [*files, FINISHED]:
            with suppress(FileNotFoundError):
                os.replace(staged / name, self.path / name)
        if MODEL not in files:
            self.model.unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)

    def mean_of(self, column: str) -> float:
        """Returns the mean of a column of a finished run's table, the number that a sweep optimizes.

        Args:
            column: ``TABLE.COLUMN``, or a column of the table called metrics. Empty cells don't count.

        Raises:
            ExperimentError: there is no such column, or it holds no number.
        """
        table, _, name = str(column).rpartition(".")
        table = table or "metrics"
        if table not in self.tables:
            raise ExperimentError(f"objective={column}: {self.row} has no table {table}")
        values = self.table(table)
        numeric = list(values.select_dtypes("number").columns)
        if name not in numeric or values[name].isna().all():
            there = ", ".join(numeric)
            raise ExperimentError(f"objective={column}: no column of numbers in {self.row}; there are {there}")
        return float(values[name].mean())

    def environment(self) -> dict[str, Any]:
        """Returns the facts of the code and machine that made a finished run.

        Raises:
            ExperimentError: they can't be read.
        """
        path = self.path / ENVIRONMENT
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError):
            facts = None
        if not isinstance(facts, dict):
            raise ExperimentError(f"{path} is damaged; force=true runs it again")
        return facts

    @property
    def tables(self) -> list[str]:
        """Names of the tables of a finished run; a file beside them, of an earlier result say, is none."""
        files = json.loads((self.path / FINISHED).read_text())["files"]
        return sorted(Path(name).stem for name in files if name.endswith(".csv"))

    def table(self, name: str) -> pd.DataFrame:
        """Reads a table of a finished run."""
        import pandas as pd

        return pd.read_csv(self.path / f"{name}.csv")

    def note_code(self, commit: str, dirty: bool | None, resumed: bool) -> dict[str, Any]:
        """Notes which code begins this run or goes on with it; returns ``commit``, of all parts, and ``dirty``."""
        path, parts = self.checkpoints / CODE, []
        if resumed:
            with suppress(OSError, ValueError, TypeError):  # begun by code that left no note, or a damaged one
                parts = [[str(one), changed] for one, changed in json.loads(path.read_text())]
        if resumed and parts and parts[-1] != [commit, dirty]:
            log.warning("  begun at commit %.10s, and goes on at %.10s: the result names both", parts[-1][0], commit)
        parts = [*(part for part in parts if part != [commit, dirty]), [commit, dirty]]
        write_atomically(path, json.dumps(parts))
        return {
            "commit": " ".join(dict.fromkeys(one for one, _ in parts)),
            "dirty": any(one for _, one in parts) or dirty,
        }

    @contextmanager
    def noted_failure(self) -> Iterator[None]:
        """Leaves a note of an error that the block raises, so that who collects the results can say why one lacks."""
        note = self.checkpoints / FAILURE
        note.unlink(missing_ok=True)
        try:
            yield
        except Exception as error:
            with suppress(OSError):
                kind = "" if isinstance(error, ExperimentError) else f"{type(error).__name__}: "
                write_atomically(note, kind + one_line(error))
            raise

    @property
    def failure(self) -> str | None:
        """Why the run failed when it was last at work; None if it did not, was stopped, or is at work."""
        try:
            return (self.checkpoints / FAILURE).read_text()
        except (OSError, ValueError):
            return None

    def discard_checkpoints(self) -> None:
        """Forgets an interrupted run. A finished result stays until the next one replaces it."""
        shutil.rmtree(self.checkpoints)
        self.checkpoints.mkdir()

    def last_checkpoint(self) -> Path | None:
        """Returns the checkpoint to continue from; see ``readable_checkpoint``."""
        return readable_checkpoint(self.checkpoints / "last.ckpt")


def readable_checkpoint(path: Path, needed: Collection[str] = ()) -> Path | None:
    """Returns the path of a checkpoint after reading it once in full; None when there is none to continue from.

    One that is damaged, lacks a key, or holds more than tensors and plain values, is named ``unreadable.ckpt``, and the
    log says so: the same command must be able to go on.

    Args:
        path: Of the checkpoint.
        needed: Keys that it must have.

    Raises:
        ExperimentError: the file can't be read or renamed.
    """
    if not path.exists():
        return None
    try:
        read_tensors(path, needed)
    except OSError as error:
        raise ExperimentError(f"the checkpoint {path} can't be read ({error.strerror})") from None
    except ValueError as error:
        path.replace(path.with_name("unreadable.ckpt"))
        log.warning("the checkpoint %s can't be read (%s); set aside as unreadable.ckpt, starting over", path, error)
        return None
    return path


def find_runs(results: Path) -> Iterator[tuple[str, RunDirectory]]:
    """Yields (folder of the row, run) of every run that was ever started, by name; nothing is checked."""
    runs = results / "runs"
    for folder in sorted({path.parent for name in ("checkpoints", FINISHED) for path in runs.glob(f"*/*/*/{name}")}):
        row = folder.parent.relative_to(runs).as_posix()
        yield row, RunDirectory(results, row, folder.name)
