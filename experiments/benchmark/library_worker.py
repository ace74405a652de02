"""Time this project's sampler, or plain NumPy: one process per job, ``python -m experiments.benchmark.library_worker``.

One JSON object comes in as the only argument ({"work": ..., "settings": ..., "memory": ...}), one JSON line goes out.
"""

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import mvhg
from experiments.benchmark import plain_numpy
from experiments.benchmark.measure import memory_growth_mib, time_briefly, time_calls
from experiments.benchmark.settings import Settings


def _sample(settings: Settings) -> Callable[[int], object]:
    weights = torch.tensor(settings.weights)
    sizes = torch.tensor(settings.group_sizes)

    def call(draws: int) -> object:
        return mvhg.MultivariateHypergeometric(settings.total_count, sizes, weights).sample((draws,))

    return call


def _straight_through(settings: Settings, per_element: bool, masks: bool) -> Callable[[int], object]:
    sizes = torch.tensor(settings.group_sizes)
    coefficients = torch.tensor(settings.coefficients)

    def call(batch: int) -> object:
        log_weights = torch.tensor(settings.weights).log()
        if per_element:
            log_weights = log_weights.expand(batch, -1).clone()
        log_weights.requires_grad_()
        law = mvhg.MultivariateHypergeometricStraightThrough(
            settings.temperature, settings.total_count, sizes, log_weights=log_weights
        )
        shape = () if per_element else (batch,)
        # Summing the mask gives the counts: the same loss, with the gradient through the masks.
        counts = law.rsample_selection(shape).prefix_mask.sum(-1) if masks else law.rsample(shape)
        return torch.autograd.grad((counts @ coefficients).sum(), log_weights)

    return call


def _partition(settings: Settings, side: str) -> Callable[[int], object]:
    sizes = settings.partition_group_sizes
    log_weights = np.linspace(-1.0, 1.0, len(sizes)).tolist()
    if side != "library":
        one_by_one = side == "numpy one by one"
        return lambda _: plain_numpy.log_partition(settings.partition_total_count, list(sizes), log_weights, one_by_one)
    size_tensor = torch.tensor(sizes)
    log_weight_tensor = torch.tensor(log_weights, dtype=torch.float64)

    def call(_: int) -> object:
        law = mvhg.MultivariateHypergeometric(
            settings.partition_total_count, size_tensor, log_weights=log_weight_tensor
        )
        return law.log_partition.item()

    return call


def scaling(settings: Settings) -> list[dict[str, Any]]:
    """Seconds of ``log_prob`` and ``sample`` (construction included) over numbers of groups and total counts."""
    rows = []
    for groups, total_count in itertools.product(settings.scaling_groups, settings.scaling_total_counts):
        sizes = torch.full((groups,), round(2 * total_count / groups))
        weights = torch.linspace(0.5, 2.0, groups)

        def law() -> mvhg.MultivariateHypergeometric:
            return mvhg.MultivariateHypergeometric(total_count, sizes, weights)  # noqa: B023

        shape = (settings.scaling_draws,)
        counts = law().sample(shape)
        for name, call in {
            "log_prob": lambda: law().log_prob(counts),  # noqa: B023
            "sample": lambda: law().sample(shape),  # noqa: B023
        }.items():
            seconds = time_briefly(call, settings.repeats)
            rows.append({"work": name, "groups": groups, "total_count": total_count, "seconds": seconds})
    return rows


def precision(settings: Settings, dtype: torch.dtype) -> dict[str, float]:
    """Total-variation distances of the library's conditionals and samples from the float64 reference.

    ``conditionals``: the largest distance of p(x_1) and of every p(x_2 | x_1), both from ``marginal_log_probs``.
    ``sample`` and ``sample_expected``: distance of the first group's histogram in one run of ``sample`` from p(x_1),
    and the distance that perfect sampling has on average at this number of draws.
    """
    first, second = plain_numpy.conditional_laws(
        settings.total_count, list(settings.group_sizes), list(settings.weights)
    )
    sizes, weights = torch.tensor(settings.group_sizes), torch.tensor(settings.weights, dtype=dtype)
    law = mvhg.MultivariateHypergeometric(settings.total_count, sizes, weights)
    marginal = law.marginal_log_probs()[0].double().exp().numpy()
    possible = torch.from_numpy(np.flatnonzero(second.sum(axis=1)))
    rest = mvhg.MultivariateHypergeometric(settings.total_count - possible, sizes[1:], weights[1:])
    conditional = rest.marginal_log_probs()[:, 0].double().exp().numpy()
    distances = [np.abs(marginal - first).sum() / 2, np.abs(conditional - second[possible]).sum(axis=1).max() / 2]
    counts = law.sample((settings.draws,))[:, 0].long().numpy()
    histogram = np.bincount(counts, minlength=len(first)) / settings.draws
    return {
        "conditionals": float(max(distances)),
        "sample": float(np.abs(histogram - first).sum() / 2),
        "sample_expected": float(np.sqrt(2 * first * (1 - first) / (np.pi * settings.draws)).sum() / 2),
    }


def work_call(work: str, settings: Settings) -> tuple[Callable[[int], object], int]:
    """The function to time and its full size (draws, batch, or 1 where the work has no such size)."""
    if work == "sample":
        return _sample(settings), settings.draws
    if work.startswith("straight-through"):
        return _straight_through(settings, "per element" in work, "masks" in work), settings.batch
    if work.startswith("partition "):
        return _partition(settings, work.removeprefix("partition ")), 1
    raise ValueError(f"work is {work!r}; it must be 'sample', 'straight-through ...' or 'partition ...'.")


def main(job: dict[str, Any]) -> dict[str, Any]:
    settings = Settings(**job["settings"])
    torch.manual_seed(0)
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    if job["work"] == "scaling":
        return result | {"rows": scaling(settings)}
    if job["work"] == "precision":
        dtypes = {"float32": torch.float32, "float64": torch.float64}
        return result | {name: precision(settings, dtype) for name, dtype in dtypes.items()}
    call, size = work_call(job["work"], settings)
    call(min(size, 10))
    if job["memory"]:
        result["memory_mib"] = memory_growth_mib(lambda: call(size))
    else:
        result["value"] = call(size) if size == 1 else None
    result["seconds"] = time_calls(lambda: call(size), settings.repeats)
    return result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
