"""Time the original authors' PyTorch sampler: its own process, ``python -m experiments.benchmark.official_worker``.

Their package is called ``mvhg`` too, so it can't share a process with this project's. One JSON object comes in as the
only argument (path, group_sizes, total_count, weights, coefficients, temperature, batch, repeats, memory), one JSON
line goes out.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmark.measure import memory_growth_mib, time_calls
from experiments.common.authors import load_sampler


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (their class order comes from NumPy's global state)
    sampler = load_sampler(Path(job["path"]))
    group_sizes = torch.tensor(job["group_sizes"])
    coefficients = job["coefficients"]

    def forward_backward(batch: int) -> None:
        # The urn's log weights stand in every row: their code has no shared weights.
        log_weights = torch.tensor(job["weights"]).log().expand(batch, -1).clone().requires_grad_()
        total_count = torch.full((batch, 1), job["total_count"])
        _, counts, _, _ = sampler(group_sizes, total_count, log_weights, job["temperature"], True, True)
        loss = sum(coefficient * count.sum() for coefficient, count in zip(coefficients, counts, strict=True))
        torch.autograd.grad(loss, log_weights)

    forward_backward(10)
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    if job["memory"]:
        result["memory_mib"] = memory_growth_mib(lambda: forward_backward(job["batch"]))
    result["seconds"] = time_calls(lambda: forward_backward(job["batch"]), job["repeats"])
    return result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
