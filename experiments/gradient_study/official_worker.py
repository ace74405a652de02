"""Single-sample gradients of the original authors' PyTorch sampler, in a process of its own.

``python -m experiments.gradient_study.official_worker``. One JSON object comes in as the only argument (path, seed,
blocks, block, cells: a list of [temperature, fields of a Problem]). One JSON line per cell goes
out: for each function the means and the mean squares of every block, shape [blocks, groups].

Their sampler draws one class order per call, from NumPy's global state, and its gradients depend on the order. So a
block consists of one call in each order, equally many samples each: the same mean as with random orders, less noise.
"""

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.authors import load_sampler
from experiments.gradient_study.problems import Problem


def seeds_of_all_orders(groups: int) -> list[int]:
    """Seeds of NumPy's global state after which its first permutation is each of all orders, once."""
    found: dict[tuple[int, ...], int] = {}
    for seed in itertools.count():
        order = tuple(np.random.RandomState(seed).permutation(groups).tolist())
        found.setdefault(order, seed)
        if len(found) == math.factorial(groups):
            return list(found.values())
    raise AssertionError("unreachable")


def main(job: dict[str, Any]) -> None:
    torch.manual_seed(job["seed"])
    sampler = load_sampler(Path(job["path"]))
    for temperature, cell in job["cells"]:
        problem = Problem(**cell)
        order_seeds = seeds_of_all_orders(len(problem.weights))
        samples = job["block"] // len(order_seeds)
        log_weights = torch.tensor(problem.weights).log().expand(samples, -1).clone().requires_grad_()
        total_count = torch.full((samples, 1), problem.total_count)
        group_sizes = torch.tensor(problem.group_sizes)
        result: dict[str, Any] = {name: {"means": [], "squares": []} for name in problem.functions}
        for _ in range(job["blocks"]):
            gradients: dict[str, list[torch.Tensor]] = {name: [] for name in result}
            for seed in order_seeds:
                np.random.seed(seed)  # noqa: NPY002
                _, groups, _, _ = sampler(group_sizes, total_count, log_weights, temperature, True, True)
                counts = torch.cat([group.reshape(samples, 1) for group in groups], dim=1)
                for name, function in problem.functions.items():
                    gradients[name] += torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
            for name, parts in gradients.items():
                block = torch.cat(parts).double()
                result[name]["means"].append(block.mean(0).tolist())
                result[name]["squares"].append(block.square().mean(0).tolist())
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
