"""Time the original authors' PyTorch sampler: runs as its own process, with their checkout first on the path.

Their package is called ``mvhg`` too, so it can't share a process with this project's. One JSON object comes in as the
only argument (path, group_sizes, total_count, weights, coefficients, temperature, batch, repeats, memory), one JSON
line goes out.
"""

import json
import sys
from pathlib import Path

# As a script this file's own folder is first on the path, and so is measure.py.
from measure import memory_growth_mib, time_calls


def main(job: dict) -> dict:
    checkout = Path(job["path"]).resolve()
    sys.path.insert(0, str(checkout))
    import numpy
    import torch
    from mvhg.pt_fmvhg import MVHG

    import mvhg

    if checkout not in Path(mvhg.__file__).resolve().parents:
        raise RuntimeError(f"imported mvhg from {mvhg.__file__}, not from {checkout}")
    torch.manual_seed(0)
    numpy.random.seed(0)
    sampler = MVHG(device="cpu")
    group_sizes = torch.tensor(job["group_sizes"])
    coefficients = job["coefficients"]

    def forward_backward(batch: int) -> None:
        # The urn's log weights stand in every row: their code has no shared weights.
        log_weights = torch.tensor(job["weights"]).log().expand(batch, -1).clone().requires_grad_()
        total_count = torch.full((batch, 1), job["total_count"])
        _, counts, _, _ = sampler(group_sizes, total_count, log_weights, job["temperature"], True, True)
        loss = sum(coefficient * count.sum() for coefficient, count in zip(coefficients, counts, strict=True))
        loss.backward()

    forward_backward(10)
    result: dict = {"threads": torch.get_num_threads(), "version": torch.__version__}
    if job["memory"]:
        result["memory_mib"] = memory_growth_mib(lambda: forward_backward(job["batch"]))
    result["seconds"] = time_calls(lambda: forward_backward(job["batch"]), job["repeats"])
    return result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
