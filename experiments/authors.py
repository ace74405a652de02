"""The original authors' PyTorch sampler, loaded from a checkout that the user gives. Nothing of it is part of this one.

Their package is called ``mvhg`` as ours is: only a process that never imports ours may load it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.settings import ExperimentError

REPOSITORY = "github.com/thomassutter/mvhg"


def check_checkout(path: Path) -> Path:
    """Returns the absolute path of their checkout.

    Raises:
        ExperimentError: there is no such checkout.
    """
    if not (path / "mvhg" / "pt_fmvhg.py").is_file():
        raise ExperimentError(f"{path} has no mvhg/pt_fmvhg.py; give the root of a checkout of {REPOSITORY}")
    return path.resolve()


def load_sampler(path: Path) -> Callable[..., Any]:
    """Returns their sampler on the CPU: (group sizes, total count, log weights, temperature, noise, hard) -> tuple.

    Raises:
        ExperimentError: there is no such checkout.
        RuntimeError: another ``mvhg`` was imported before.
    """
    checkout = check_checkout(path)
    sys.path.insert(0, str(checkout))
    module = importlib.import_module("mvhg.pt_fmvhg")
    if checkout not in Path(str(module.__file__)).resolve().parents:
        raise RuntimeError(f"imported mvhg from {module.__file__}, not from {checkout}")
    sampler: Callable[..., Any] = module.MVHG(device="cpu")
    return sampler
