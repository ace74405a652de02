"""How much memory a side's training takes, in a process of its own, where no other side has left anything.

    python -m experiments.weak_supervision.benchmark.memory '{"side": "hgvae", "settings": {...}}'

prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from experiments.benchmark.measure import memory_growth_mib, peak_memory_mib
from experiments.benchmark.sides import last_json_line
from experiments.benchmark.turns import device_of
from experiments.common.tracking import Tracker
from experiments.weak_supervision.benchmark.configured import Configured
from experiments.weak_supervision.benchmark.settings import Settings
from experiments.weak_supervision.benchmark.sides import LABEL, Side, make_side

STEPS = 2  # the first makes the optimizer's state, the second has it from the start
PEAK, GROWTH = "peak_memory_mib", "training_memory_mib"


def training_memory(side: Side, accelerator: str) -> dict[str, float]:
    """Memory at the peak of a training, of the process or of the GPU, and how much of it the training added."""
    if accelerator == "cpu":
        growth = memory_growth_mib(lambda: side.train(STEPS))
        return {PEAK: peak_memory_mib(), GROWTH: growth}
    device = device_of(accelerator)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    side.train(STEPS)
    peak = torch.cuda.max_memory_allocated(device)
    return {PEAK: peak / 2**20, GROWTH: (peak - before) / 2**20}


def measure_apart(name: str, settings: Settings) -> dict[str, float]:
    """``training_memory`` of one of ``SIDES``, in a process of its own.

    Raises:
        ExperimentError: the process failed.
    """
    job = json.dumps({"side": name, "settings": asdict(settings)})
    command = [sys.executable, "-m", "experiments.weak_supervision.benchmark.memory", job]
    return last_json_line(command, torch.get_num_threads())


def main(job: str) -> None:
    """Measures what the job says."""
    described = json.loads(job)
    settings = replace(Settings(**described["settings"]), logger="disabled")
    splits = Configured.read(settings, LABEL).data.load(Path("data"))
    with tempfile.TemporaryDirectory() as folder:
        side = make_side(described["side"], settings, splits, Path(folder), Tracker(None))
        print(json.dumps(training_memory(side, settings.accelerator)))


if __name__ == "__main__":
    main(sys.argv[1])
