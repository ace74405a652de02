"""The processes and threads in which the cells of a multirun run.

Every cell has a process other than the launcher's worker, so that one that is killed takes no others with it: joblib
and Ray give up all cells when one of their workers is killed, for memory say. The worker has a child that does the
work, imports what is heavy once, and serves until it is killed or the worker ends. A child may serve several calls at
once, each in a thread of it: runs that share a GPU. What of them is the host's work alone goes on in children of that
child, beside the others.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from experiments.settings import ExperimentError, one_line

log = logging.getLogger("experiments")

calls_at_once = 1  # of this process
stopping = threading.Event()  # set where the runs that share this process are to end at their next chunk
STOP_SECONDS = 20.0  # they have for it
LAUNCHER = "MVHG_LAUNCHER"  # variable: id of the process that launches the cells


@contextmanager
def sharing(number: int) -> Iterator[None]:
    """Lets this process take itself for one that so many runs share."""
    global calls_at_once
    before, calls_at_once = calls_at_once, number
    try:
        yield
    finally:
        calls_at_once = before


class _Child:
    """A process with a connection for each of the calls that it takes at once."""

    def __init__(self, at_once: int) -> None:
        pairs = [Pipe() for _ in range(at_once)]
        theirs = [their.fileno() for _, their in pairs]
        command = [sys.executable, "-m", "experiments.cell_process", *map(str, theirs)]
        self.process = subprocess.Popen(command, pass_fds=theirs)
        self.connections = [ours for ours, _ in pairs]
        for _, their in pairs:
            their.close()  # so that the child's end is the only one


_idle: list[tuple[_Child, Connection]] = []
_idle_lock = threading.Lock()


def run_apart(function: Callable[..., Any], *arguments: Any, at_once: int = 1) -> Any:
    """Calls a function of a module in a child that is idle, or in a new one, which takes ``at_once`` calls at once.

    Raises:
        ExperimentError: the function raised it, or another exception (its stack trace is logged), or the child was
            killed.
    """
    with _idle_lock:
        if not _idle:
            new = _Child(at_once)
            _idle.extend((new, one) for one in new.connections)
        child, connection = _idle.pop()
    try:
        connection.send_bytes(pickle.dumps((function, arguments)))  # `send` would share memory of tensors
        value, reason = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError):
        with _idle_lock:
            _idle[:] = [one for one in _idle if one[0] is not child]
        raise ExperimentError(_describe_end(child.process.wait())) from None
    with _idle_lock:
        _idle.append((child, connection))
    if reason is not None:
        raise ExperimentError(reason)
    return value


def run_beside(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function that needs the host alone: in a child where runs share this process, to leave it to the others.

    The value is the same. Such functions may change what is the process's, as UMAP and ``warnings`` do.
    """
    if calls_at_once == 1:
        return function(*arguments)
    import torch

    return run_apart(_as_here, torch.get_num_threads(), threading.current_thread().name, function, *arguments)


def _as_here(threads: int, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    import torch

    torch.set_num_threads(threads)
    threading.current_thread().name = name
    return function(*arguments)


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-status).name}{hint}"


_threads: list[threading.Thread] = []  # of the launching process, one for each cell that shares a child
_settings: Hashable = None  # of those cells


def start(function: Callable[[], Any], at_once: int, settings: Hashable) -> None:
    """Calls a function in a thread, as soon as there is room for the cell that it runs.

    Args:
        function: The function.
        at_once: Cells that may run at once.
        settings: What of the cell's is the whole process's; cells with other settings wait for all others.
    """
    global _settings
    wait(at_once - 1 if settings == _settings else 0)
    _settings = settings
    _threads.append(threading.Thread(target=function, daemon=True))  # an interrupt waits for none
    _threads[-1].start()


def wait(most: int = 0) -> None:
    """Waits until at most so many cells of ``start`` are at work."""
    while len(_threads) > most:
        _threads[0].join(0.1)
        _threads[:] = [thread for thread in _threads if thread.is_alive()]


class _Named(logging.Formatter):
    """Puts the id of a run that is not alone in its process before its lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.threadName == "MainThread" else f"[{record.threadName}] {text}"


def serve(connections: list[Connection]) -> None:
    """In the child: answers until the parent ends, or both are interrupted."""
    global calls_at_once
    calls_at_once = len(connections)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Named())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if calls_at_once == 1:
        return _serve(connections[0])

    def end(*_: object) -> NoReturn:
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    threads = [threading.Thread(target=_serve, args=(one,), daemon=True) for one in connections]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        pass
    finally:
        stopping.set()
        latest = time.monotonic() + STOP_SECONDS
        while _at_work and time.monotonic() < latest:
            time.sleep(0.05)


_at_work: set[Connection] = set()


def _serve(connection: Connection) -> None:
    while not stopping.is_set():
        try:
            function, arguments = pickle.loads(connection.recv_bytes())
            _at_work.add(connection)
            connection.send_bytes(pickle.dumps(_answer(function, arguments)))
        except (EOFError, ConnectionError, KeyboardInterrupt):
            return
        finally:
            _at_work.discard(connection)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """The function's value, or why there is none."""
    try:
        return function(*arguments), None
    except ExperimentError as error:
        return None, str(error)
    except Exception as error:
        log.exception("%s", function.__name__)
        return None, f"{type(error).__name__}: {one_line(error)}"


@cache
def end_with_launcher() -> None:
    """In a worker: ends it soon after the process that launched the cells, if that is its parent; joblib does not."""
    if os.environ.get(LAUNCHER) == str(parent := os.getppid()):
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    from experiments.cell_process import serve  # by this name the functions find what it sets

    serve([Connection(int(one)) for one in sys.argv[1:]])
