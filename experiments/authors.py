"""The original authors' PyTorch sampler, loaded from a checkout that the user gives. Nothing of it is part of this one.

Their package is called ``mvhg`` as ours is; it is imported while ours is put aside, so that both can take turns.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.settings import ExperimentError

REPOSITORY = "github.com/thomassutter/mvhg"


def load_sampler(path: Path) -> Callable[..., Any]:
    """Returns their sampler on the CPU: (group sizes, total count, log weights, temperature, noise, hard) -> tuple.

    Raises:
        ExperimentError: there is no such checkout, or it can't be imported.
    """
    if not (path / "mvhg" / "pt_fmvhg.py").is_file():
        raise ExperimentError(f"{path} has no mvhg/pt_fmvhg.py; give the root of a checkout of {REPOSITORY}")
    checkout = path.resolve()
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "mvhg"}
    sys.path.insert(0, str(checkout))
    try:
        module = importlib.import_module("mvhg.pt_fmvhg")
    except (ImportError, SyntaxError) as error:
        raise ExperimentError(f"{checkout} can't be imported ({error})") from None
    finally:
        sys.path.remove(str(checkout))
        for name in [name for name in sys.modules if name.split(".")[0] == "mvhg"]:
            del sys.modules[name]
        sys.modules.update(ours)
    sampler: Callable[..., Any] = module.MVHG(device="cpu")
    return sampler
