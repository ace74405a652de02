"""Runs the cells of a multirun in a process of their own, so that one that is killed takes no others with it.

Joblib and Ray give up all cells when one of their workers is killed, for memory say. The worker therefore has a child
that does the work, imports what is heavy once, and serves until it is killed or the worker ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from experiments.settings import ExperimentError

log = logging.getLogger("experiments")


class _Child:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "experiments.cell_process", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()  # so that the child's end is the only one
        self.connection = Connection(ours.detach())


_child: _Child | None = None


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in the child.

    Raises:
        ExperimentError: the function raised it, or another exception (its stack trace is logged), or the child was
            killed.
    """
    global _child
    child = _child = _child or _Child()
    try:
        child.connection.send((function, arguments))
        value, reason = child.connection.recv()
    except (EOFError, ConnectionError):
        _child = None
        raise ExperimentError(_describe_end(child.process.wait())) from None
    if reason is not None:
        raise ExperimentError(reason)
    return value


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-status).name}{hint}"


def serve(connection: Connection) -> None:
    """In the child: answers until the parent ends, or both are interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            function, arguments = connection.recv()
            connection.send(_answer(function, arguments))
        except (EOFError, ConnectionError, KeyboardInterrupt):
            return


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """The function's value, or why there is none."""
    try:
        return function(*arguments), None
    except ExperimentError as error:
        return None, str(error)
    except Exception as error:
        log.exception("%s", function.__name__)
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
