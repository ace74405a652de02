"""Many cells (row and seed) at once: what is left to run, who runs it, how far it is and what failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Hydra takes launchers only from the namespace package hydra_plugins; this is our part of it, for workers too.
_PLUGINS = str(Path(__file__).with_name("plugins"))
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
if _PLUGINS not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _PLUGINS]))
