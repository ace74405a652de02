"""Single-sample gradients of the original authors' PyTorch sampler, in a process of its own.

``python -m experiments.gradient_study.official_worker``. One JSON object comes in as the only argument (path, seed,
blocks, block, cells: a list of {group_sizes, total_count, corner, weights, temperature}). One JSON line per cell goes
out: for each function the means and the mean squares of every block, shape [blocks, groups].
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.authors import load_sampler
from experiments.gradient_study.problems import functions


def main(job: dict[str, Any]) -> None:
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 (their class order comes from NumPy's global state)
    sampler = load_sampler(Path(job["path"]))
    for cell in job["cells"]:
        log_weights = torch.tensor(cell["weights"]).log().expand(job["block"], -1).clone().requires_grad_()
        total_count = torch.full((job["block"], 1), cell["total_count"])
        group_sizes = torch.tensor(cell["group_sizes"])
        result: dict[str, Any] = {name: {"means": [], "squares": []} for name in functions(cell["corner"])}
        for _ in range(job["blocks"]):
            _, groups, _, _ = sampler(group_sizes, total_count, log_weights, cell["temperature"], True, True)
            counts = torch.cat([group.reshape(job["block"], 1) for group in groups], dim=1)
            for name, function in functions(cell["corner"]).items():
                (gradient,) = torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
                result[name]["means"].append(gradient.double().mean(0).tolist())
                result[name]["squares"].append(gradient.double().square().mean(0).tolist())
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
