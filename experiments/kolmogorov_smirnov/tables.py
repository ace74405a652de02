"""How many of the Kolmogorov-Smirnov tests reject, from the collected metrics."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pandas as pd

from experiments.results import blocks, provenance_of, read_metrics
from experiments.settings import ExperimentError
from experiments.tables import Table

REFERENCES = {"merged": "the merged SciPy reference", "exact": "the exact law"}
SAMPLERS = {"straight_through": "straight-through", "sample": "sample"}
COMPARISONS = (("merged", "merged"), ("merged", "exact"), ("exact", "exact"), ("exact", "merged"))
SERIES = {"weights": "weight of group 2", "draws": "number of draws n", "sizes": "size of group 2"}
KEYS = ["experiment", "conditionals", "reference", "sampler", "series", "draws"]


def read_lines(metrics: Path, name: str) -> pd.DataFrame:
    """Reads a table of this room: its largest profile, and of that the lowest seed.

    Args:
        metrics: Folder of the CSVs.
        name: ``kolmogorov_smirnov_metrics``, ``kolmogorov_smirnov_histograms`` or ``accuracy_metrics``.

    Raises:
        ExperimentError: there is no such table.
    """
    lines = next(blocks(read_metrics(metrics, name))).lines
    return lines[lines["seed"] == lines["seed"].min()]


def read_tests(metrics: Path) -> pd.DataFrame:
    """Reads the tests of both experiments; ``experiment`` says whose they are, and the accuracy's are exact.

    Raises:
        ExperimentError: there are none of ``kolmogorov_smirnov``.
    """
    tests = [read_lines(metrics, "kolmogorov_smirnov_metrics").assign(experiment="kolmogorov_smirnov")]
    with suppress(ExperimentError):  # a million draws per urn: made by their own command
        tests.append(read_lines(metrics, "accuracy_metrics").assign(experiment="accuracy", conditionals="exact"))
    return pd.concat([part for part in tests if part["profile"].iloc[0] == tests[0]["profile"].iloc[0]])


def rejections_table(tests: pd.DataFrame) -> Table:
    """Rejections at 0.05 and the largest distance of every run, held against each of its references.

    Args:
        tests: Lines of :func:`read_tests`.
    """
    header = ["conditionals, sampler", "held against", "varied", "draws", "rejected", "largest D", "detectable D"]
    header.append("smallest corrected p")
    rows, provenance = [], []
    groups = {key: part for key, part in tests.groupby(KEYS)}
    for key in sorted(groups, key=_order):
        (experiment, conditionals, reference, sampler, series, draws), part = key, groups[key]
        rows.append(
            [
                f"{conditionals}, {SAMPLERS.get(sampler, sampler)}",
                REFERENCES.get(reference, reference),
                SERIES.get(series, series),
                f"{draws:,}",
                f"{int(part['rejected'].sum())} of {len(part)}",
                f"{part['ks_distance'].max():.4f}",
                f"{part['ks_detectable'].max():.4f}",
                f"{part['ks_p_corrected'].min():.2g}",
            ]
        )
        provenance.append(provenance_of(part, f"{experiment}_metrics.csv"))
    first = tests.iloc[0]
    title = f"Kolmogorov-Smirnov tests at 0.05, one per urn and group; profile {first['profile']}, seed {first['seed']}"
    return Table(title, header, rows, provenance)


def _order(key: tuple[str, str, str, str, str, int]) -> tuple[int, int, int, int, str]:
    _, conditionals, reference, sampler, series, draws = key
    place = list(SERIES).index(series) if series in SERIES else len(SERIES)
    return COMPARISONS.index((conditionals, reference)), draws, list(SAMPLERS).index(sampler), place, series
