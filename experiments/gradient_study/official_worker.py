"""Single-sample gradients of the original authors' PyTorch sampler: its own process, their checkout first on the path.

One JSON object comes in as the only argument (path, seed, blocks, block, cells: a list of {group_sizes, total_count,
corner, weights, temperature}). One JSON line per cell goes out: for each function the means and the mean squares of
every block, shape [blocks, groups].
"""

import json
import sys
from pathlib import Path

# As a script this file's own folder is first on the path, and so is problems.py.
from problems import functions


def main(job: dict) -> None:
    checkout = Path(job["path"]).resolve()
    sys.path.insert(0, str(checkout))
    import numpy
    import torch
    from mvhg.pt_fmvhg import MVHG

    import mvhg

    if checkout not in Path(mvhg.__file__).resolve().parents:
        raise RuntimeError(f"imported mvhg from {mvhg.__file__}, not from {checkout}")
    torch.manual_seed(job["seed"])
    numpy.random.seed(job["seed"])  # their class order comes from NumPy's global state
    sampler = MVHG(device="cpu")
    for cell in job["cells"]:
        log_weights = torch.tensor(cell["weights"]).log().expand(job["block"], -1).clone().requires_grad_()
        total_count = torch.full((job["block"], 1), cell["total_count"])
        result: dict = {name: {"means": [], "squares": []} for name in functions(cell["corner"])}
        for _ in range(job["blocks"]):
            _, groups, _, _ = sampler(
                torch.tensor(cell["group_sizes"]), total_count, log_weights, cell["temperature"], True, True
            )
            counts = torch.cat([group.reshape(job["block"], 1) for group in groups], dim=1)
            for name, function in functions(cell["corner"]).items():
                (gradient,) = torch.autograd.grad(function(counts).sum(), log_weights, retain_graph=True)
                result[name]["means"].append(gradient.double().mean(0).tolist())
                result[name]["squares"].append(gradient.double().square().mean(0).tolist())
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
