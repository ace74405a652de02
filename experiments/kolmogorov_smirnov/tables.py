"""How many of the Kolmogorov-Smirnov tests reject, from the collected metrics."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pandas as pd
from scipy.stats import binom

from experiments.results import describe_seeds, ordered, provenance_of, read_largest
from experiments.settings import ExperimentError
from experiments.tables import Table

SIGNIFICANCE = 0.05  # the paper's threshold, after Benjamini-Hochberg over the groups of an urn
CHANCE_QUANTILE = 0.999  # of the number of urns with a rejection when every hypothesis is true
REFERENCES = {"merged": "the merged SciPy reference", "exact": "the exact law"}
SAMPLERS = {"straight_through": "straight-through", "sample": "sample"}
COMPARISONS = (("merged", "merged"), ("merged", "exact"), ("exact", "exact"), ("exact", "merged"))
SERIES = {"weights": "weight of group 2", "draws": "number of draws n", "sizes": "size of group 2"}
HEADER = ["conditionals, sampler", "held against", "varied", "draws", "rejected", "largest D", "detectable D"]
HEADER += ["smallest corrected p"]


def read_lines(metrics: Path, name: str) -> pd.DataFrame:
    """Reads a table of this room: its largest profile, and of that the lowest seed.

    Args:
        metrics: Folder of the CSVs.
        name: ``kolmogorov_smirnov_metrics``, ``kolmogorov_smirnov_histograms`` or ``accuracy_metrics``.

    Raises:
        ExperimentError: there is no such table.
    """
    lines = read_largest(metrics, name)
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


def most_rejected(urns: int) -> int:
    """The 99.9 % quantile, or more, of the number of urns with a test that rejects, for a sampler without a fault.

    Urns are independent, the tests of an urn's groups are not. The probability that any of them rejects is taken to be
    0.05, at which the correction holds it for independent tests; tests of counts reject less (31 of 1,914 urns
    of these series had a rejection, by 5,000 draws of ``sample`` each).
    """
    return int(binom.ppf(CHANCE_QUANTILE, urns, SIGNIFICANCE))


def rejections_table(tests: pd.DataFrame) -> Table:
    """Rejections at 0.05 and the largest distance of every run, held against each of its references.

    Args:
        tests: Lines of :func:`read_tests`.
    """
    rows, provenance = [], []
    place = tests[["conditionals", "reference"]].apply(lambda pair: COMPARISONS.index(tuple(pair)), axis=1)
    known = {"sampler": list(SAMPLERS), "series": list(SERIES)}
    order = {name: pd.Categorical(tests[name], ordered(tests[name], first)) for name, first in known.items()}
    by = [place.rename("comparison"), "draws", "sampler", "series", "experiment"]
    for (comparison, draws, sampler, series, experiment), part in tests.assign(**order).groupby(by, observed=True):
        conditionals, reference = COMPARISONS[comparison]
        cells = [f"{conditionals}, {SAMPLERS.get(sampler, sampler)}", REFERENCES[reference]]
        cells += [SERIES.get(series, series), f"{draws:,}", f"{int(part['rejected'].sum())} of {len(part)}"]
        cells += [f"{part[column].max():.4f}" for column in ("ks_distance", "ks_detectable")]
        rows.append([*cells, f"{part['ks_p_corrected'].min():.2g}"])
        provenance.append(provenance_of(part, f"{experiment}_metrics.csv"))
    seeds = describe_seeds(tests, "experiment", {"accuracy": "of the accuracy"})
    title = f"Kolmogorov-Smirnov tests at 0.05, one per urn and group; profile {tests['profile'].iloc[0]}, {seeds}"
    return Table(title, HEADER, rows, provenance)
