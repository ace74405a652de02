"""How every script ends where a user can put something right: with one line and status 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.common.errors import ExperimentError


@contextmanager
def one_line_errors(place: Path) -> Iterator[None]:
    """Turns what a user can put right into ``error: ...``.

    Args:
        place: Named where the operating system names no file.

    Raises:
        SystemExit: an ExperimentError or OSError came out of the block.
    """
    try:
        yield
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or place}: {error.strerror or error}")
