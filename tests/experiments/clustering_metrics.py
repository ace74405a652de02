"""Synthetic clustering metrics in the format of the aggregator, for tests of tables, figures and verdicts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

VERSIONS = {"full": 1.0, "80": 0.8, "60": 0.6}
SHARES = VERSIONS | {"10": 0.1}
AXES = {  # prior, conditionals, reading
    "uniform": ("uniform", "", ""),
    "categorical": ("categorical", "", ""),
    "hypergeometric": ("hypergeometric", "exact", "counts"),
    "hypergeometric_merged": ("hypergeometric", "merged", "counts"),
    "hypergeometric_assignments": ("hypergeometric", "exact", "assignments"),
}
PRIORS = tuple(AXES)
ACCURACY = {"uniform": 0.85, "categorical": 0.80, "hypergeometric": 0.88, "start": 0.75}
RUN = {"commit": "a" * 40, "dirty": False, "device": "a processor", "torch": "2.13.0"}


def true_frequencies(ratio: float) -> np.ndarray:
    """Ten classes, the first five cut to ``ratio``."""
    sizes = np.array([ratio] * 5 + [1.0] * 5)
    return sizes / sizes.sum()


def _scores(accuracies: Mapping[str, float]) -> list[dict[str, Any]]:
    lines = []
    for stage, accuracy in accuracies.items():
        for split, digits in {"test": 1000, "test_subsampled": 900, "train": 4000}.items():
            value = accuracy - 0.01 * (split == "test_subsampled")
            terms = {"elbo": -90.0, "reconstruction": -80.0, "latent": -12.0, "assignment": 0.5, "prior_term": -2.0}
            lines.append(
                {"stage": stage, "split": split, "digits": digits, "accuracy": value, "nmi": value - 0.05}
                | {"ari": value - 0.1, "empty_clusters": 0, "smallest_cluster": 0.04}
                | (terms if stage == "vade" else dict.fromkeys(terms))
            )
    return lines


def tables_of(
    prior: str, version: str, seed: int, accuracies: Mapping[str, float], epochs: int
) -> dict[str, pd.DataFrame]:
    """What one run returns; clusters are the classes in a random order, learned frequencies half way to the truth."""
    random = np.random.default_rng((seed, PRIORS.index(prior), list(SHARES).index(version)))
    matching = random.permutation(10)
    truth = true_frequencies(SHARES[version])[matching]
    learned = np.full(10, 0.1) if prior == "uniform" else 0.5 * truth + 0.05 + 0.002 * random.standard_normal(10)
    log_weights = np.log(learned) - np.log(learned).mean()
    counts = random.multinomial(100, np.full(10, 0.02) + 0.8 * np.eye(10))  # [classes, columns], rows sum to 100
    curve = 1 - np.exp(-np.arange(1, 21) / 6)
    images = random.integers(0, 256, (80, 784), dtype=np.uint8)
    metrics = pd.DataFrame(_scores(accuracies)).assign(epochs=epochs, pretraining="stacked_denoising")
    weights = {
        "cluster": range(10),
        "matched_class": matching,
        "true_frequency": truth,
        "learned_frequency": learned,
        "log_weight": [None] * 10 if prior == "uniform" else log_weights,
        "train_fraction": truth,
        "smallest_standard_deviation": 0.3,
    }
    history = {
        "epoch": range(1, 21),
        "elbo": -120 + 30 * curve + random.standard_normal(20),
        "test_accuracy": np.where(np.arange(1, 21) % 2, np.nan, accuracies["vade"] - 0.3 + 0.3 * curve),
    }
    generated = {
        "cluster": np.repeat(np.arange(10), 8),
        "matched_class": np.repeat(matching, 8),
        "sample": np.tile(np.arange(8), 10),
        "pixels": [base64.b64encode(image.tobytes()).decode() for image in images],
    }
    confusion = {
        "cluster": np.repeat(np.arange(10), 10),
        "class": np.tile(np.arange(10), 10),
        "digits": counts[:, matching].T.ravel(),  # the cluster matched to a class holds most of it
    }
    return {
        "metrics": metrics,
        "weights": pd.DataFrame(weights),
        "confusion": pd.DataFrame(confusion),
        "history": pd.DataFrame(history),
        "generated": pd.DataFrame(generated),
    }


def origin_of(prior: str, version: str, recipe: str) -> dict[str, Any]:
    """Axes and changes of a line."""
    name, conditionals, reading = AXES[prior]
    return {
        "recipe": recipe,
        "prior": name,
        "version": version,
        "conditionals": conditionals,
        "reading": reading,
        "changes": "",
    }


def write_block(
    folder: Path,
    profile: str = "quick",
    data: str = "digits_5000",
    seeds: Iterable[int] = range(3),
    priors: Iterable[str] = PRIORS,
    versions: Iterable[str] = VERSIONS,
    accuracy: Mapping[str, float] | None = None,
    epochs: int = 20,
    recipe: str = "vade",
) -> None:
    """Adds a block of runs to the CSVs of a folder; the accuracy of seed s is s/100 above the given one."""
    given, parts = ACCURACY | dict(accuracy or {}), dict[str, list[pd.DataFrame]]()
    for prior in priors:
        for version in versions:
            for seed in seeds:
                run = f"{recipe}-{prior}-{version}-{profile}-{data}-{seed}"
                origin = origin_of(prior, version, recipe) | {
                    "profile": profile,
                    "data": data,
                    "seed": seed,
                    "run_id": run,
                }
                vade = given.get(prior, given["hypergeometric"])
                accuracies = {"start": given["start"] + seed / 100, "vade": vade + seed / 100}
                for name, table in tables_of(prior, version, seed, accuracies, epochs).items():
                    if name == "metrics":
                        table = table.assign(**RUN, seconds=100.0 + seed)
                    parts.setdefault(name, []).append(pd.concat([pd.DataFrame([origin] * len(table)), table], axis=1))
    folder.mkdir(exist_ok=True, parents=True)
    for name, tables in parts.items():
        path = folder / f"clustering_{name}.csv"
        old = [pd.read_csv(path, dtype={"version": str})] if path.exists() else []
        pd.concat([*old, *tables]).to_csv(path, index=False)
