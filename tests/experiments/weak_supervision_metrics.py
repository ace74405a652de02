"""Synthetic metrics of the weak supervision in the format of the aggregator, for tests of tables, figures, verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.weak_supervision.methods import METHODS

SHARED = (0, 1, 3, 5)
RUN = {"commit": "a" * 40, "dirty": False, "device": "a processor", "torch": "2.13.0"}
BUDGET = {"image_size": 32, "steps": 2000, "batch_size": 32, "learning_rate": 0.001, "final_temperature": 0.01}
HISTORY = (500, 1000)  # epochs' last bounds
SCORES = ["beta_vae", "factor_vae", "mig", "sap", "modularity", "dci_disentanglement", "dci_completeness"]
SCORES += ["dci_informativeness", "downstream"]


def expected_count(method: str, shared: int) -> float:
    """What the made-up methods estimate for k = 7 - s, on average over the seeds 0 and 1."""
    true_count = 7 - shared
    estimates = {"label_vae": 1.0, "ada_vae": 3.0, "hgvae": 8.0, "posterior_hgvae": true_count + 0.25}
    return float(estimates.get(method, true_count))


def run_tables(method: str, shared: int, seed: int) -> dict[str, pd.DataFrame]:
    """What one run returns. Seeds move E[k-hat] by 0.1 up and down, and accuracies by 0.01 a seed."""
    random = np.random.default_rng((seed, list(METHODS).index(method), shared))
    latents = 7 if method in ("posterior_hgvae", "fixed_k_joint") else 10
    learned = method not in ("label_vae", "fixed_k", "fixed_k_joint")
    count = expected_count(method, shared) + (0.1 * (-1) ** seed if learned else 0.0)
    true_count = 7 - shared
    independent = 0.1 + 0.05 * list(METHODS).index(method) + 0.01 * seed
    metrics = BUDGET | {
        "latents": latents,
        "expected_count": count,
        "drawn_count": round(count),
        "count_error": (count - true_count) ** 2,
        "draw_count_error": (count - true_count) ** 2 + (1.0 if learned else 0.0),
        "shared_error": (latents - count - shared) ** 2,
        "draw_shared_error": (latents - count - shared) ** 2 + (1.0 if learned else 0.0),
        "shared_accuracy": np.nan if shared == 0 else 0.3 + 0.01 * seed,
        "independent_accuracy": independent,
        "reconstruction": -1500.0 - seed,
        "per_view_bound": -1510.0 - seed,
        "joint_bound": -1508.0 - seed,
        "active_latents": 5,
        "active_independent": count,
        "active_shared": latents - count,
        "inactive": 0.0,
        "told_apart": 0.4,
        "told_apart_unshared": 0.8,
    }  # fmt: skip
    counts = np.arange(latents + 1)
    falling = -20.0 * np.exp(-1.2 * counts)
    profile = {
        "independent": counts,
        "per_view": -1500 + falling - 0.02 * counts + 0.05 * random.standard_normal(),
        "joint": -1498 + falling - 0.6 * np.abs(counts - true_count) + 0.05 * random.standard_normal(),
    }
    history = {"epoch": [1, 2], "bound": [-1600.0, -1500.0 - seed], "expected_count": [5.0, count]}
    return {
        "metrics": pd.DataFrame([metrics]),
        "profile": pd.DataFrame(profile),
        "history": pd.DataFrame(history),
    }


def _origin(method: str, shared: int, profile: str, data: str, seed: int, changes: str = "") -> dict[str, Any]:
    """The columns that the aggregation puts before a run's own."""
    run_id = f"{method}-{shared}-{changes}-{profile}-{data}-{seed}"
    axes = {"method": method, "shared": shared, "changes": changes}
    return axes | {"profile": profile, "data": data, "seed": seed, "run_id": run_id}


def _append(folder: Path, name: str, origin: dict[str, Any], table: pd.DataFrame) -> None:
    path = folder / f"{name}.csv"
    folder.mkdir(exist_ok=True, parents=True)
    more = RUN | {"seconds": 100.0 + origin["seed"]} if name.endswith("_metrics") else {}
    table = table.reset_index(drop=True).assign(**more)
    table = pd.concat([pd.DataFrame([origin], index=table.index), table], axis=1)
    old = [pd.read_csv(path)] if path.exists() else []
    pd.concat([*old, table]).to_csv(path, index=False)


def write_block(
    folder: Path,
    profile: str = "quick",
    data: str = "mpi3d_sim",
    seeds: Iterable[int] = (0, 1),
    methods: Iterable[str] = METHODS,
    pairs: Iterable[int] = SHARED,
) -> None:
    """Adds a block of runs to the CSVs of a folder."""
    for method in methods:
        for shared in pairs:
            for seed in seeds:
                for name, table in run_tables(method, shared, seed).items():
                    _append(folder, f"weak_supervision_{name}", _origin(method, shared, profile, data, seed), table)


def write_ablations(
    folder: Path, profile: str = "quick", data: str = "mpi3d_sim", seeds: Iterable[int] = (0, 1)
) -> None:
    """Adds HGVAE, s = 3, at two more final temperatures and learning rates, and with another bound."""
    changes: dict[str, dict[str, Any]] = {
        "training.final_temperature=1": {"final_temperature": 1.0},
        "training.final_temperature=0.1": {"final_temperature": 0.1},
        "training.learning_rate=0.003": {"learning_rate": 0.003},
        "training.learning_rate=0.0001": {"learning_rate": 0.0001},
        "model.objective=joint": {},
        "model.sort_noise=0.5": {},  # which no dictionary knows
    }
    for number, (change, columns) in enumerate(changes.items()):
        for seed in seeds:
            tables, origin = run_tables("hgvae", 3, seed), _origin("hgvae", 3, profile, data, seed, change)
            metrics = tables["metrics"].assign(**columns, count_error=1.0 + number + seed)
            history = tables["history"].assign(bound=lambda table, number=number: table["bound"] - 10.0 * number)
            _append(folder, "weak_supervision_metrics", origin, metrics)
            _append(folder, "weak_supervision_history", origin, history)


def write_imposed(folder: Path, shared: int, count: int, bound: float, latents: int = 7) -> None:
    """Adds ``fixed_k_joint`` with another number of independent latents imposed, of so many."""
    origin = _origin("fixed_k_joint", shared, "quick", "mpi3d_sim", 0, f"model.independent={count}")
    metrics = run_tables("fixed_k_joint", shared, 0)["metrics"].assign(expected_count=float(count), joint_bound=bound)
    if latents != 7:
        origin["changes"] += f" model.num_latents={latents}"
        metrics = metrics.assign(latents=latents)
    _append(folder, "weak_supervision_metrics", origin, metrics)


def write_fixed_set(folder: Path, cells: dict[tuple[int, str], float]) -> None:
    """Adds HGVAE with the first s factors shared, with these accuracies by s and part."""
    for shared in {shared for shared, _ in cells}:
        origin = _origin("hgvae", shared, "quick", "mpi3d_sim", 0, "data.pairing=fixed_set")
        columns = {f"{part}_accuracy": value for (one, part), value in cells.items() if one == shared}
        _append(folder, "weak_supervision_metrics", origin, run_tables("hgvae", shared, 0)["metrics"].assign(**columns))


def write_random(
    folder: Path, method: str, seed: int, estimates: dict[int, list[int]], changes: str = "", latents: int = 10
) -> None:
    """Adds a run on pairs that share random numbers of factors: its rounded estimates by k."""
    origin = _origin(method, 0, "quick", "mpi3d_sim", seed, changes) | {"shared": "random"}
    lines = [
        {"true_count": true, "estimated_count": one, "pairs": found.count(one), "mean": float(np.mean(found))}
        for true, found in estimates.items()
        for one in sorted(set(found))
    ]
    metrics = run_tables(method, 0, seed)["metrics"].assign(
        rank_correlation=0.5 + 0.2 * seed, shared_set_accuracy=0.6, assigned_factors=3, latents=latents
    )
    metrics = metrics.assign(taught_rank_correlation=0.7, pixel_rank_correlation=0.6)
    _append(folder, "weak_supervision_counts", origin, pd.DataFrame(lines))
    _append(folder, "weak_supervision_metrics", origin, metrics)


def write_pictures(folder: Path, method: str, shared: int, table: pd.DataFrame) -> None:
    """Adds a run's pictures."""
    _append(folder, "weak_supervision_pictures", _origin(method, shared, "quick", "mpi3d_sim", 0), table)


def write_scores(folder: Path, profile: str = "quick", data: str = "mpi3d_sim", seeds: Iterable[int] = (0, 1)) -> None:
    """Adds disentanglement scores of four methods; the value of seed s is s/100 above (k + method's number) / 20."""
    for number, method in enumerate(("label_vae", "ada_vae", "hgvae", "posterior_hgvae")):
        for shared in SHARED:
            for seed in seeds:
                value = (7 - shared + number) / 20 + seed / 100
                samples = [1000 if score.startswith("dci") else 5000 for score in SCORES]
                table = pd.DataFrame({"score": SCORES, "value": value, "samples": samples})
                _append(folder, "disentanglement_metrics", _origin(method, shared, profile, data, seed), table)
