"""How many of the Kolmogorov-Smirnov tests reject, from the collected metrics."""

from __future__ import annotations

import pandas as pd

from experiments.common.provenance import provenance_of
from experiments.common.tables import Table

REFERENCES = {"merged": "the merged SciPy reference", "exact": "the exact law"}
SAMPLERS = {"straight_through": "straight-through", "sample": "sample"}
COMPARISONS = (("merged", "merged"), ("merged", "exact"), ("exact", "exact"), ("exact", "merged"))
SERIES = {"weights": "weight of group 2", "draws": "number of draws n", "sizes": "size of group 2"}


def _order(key: tuple[str, str, str, str, int]) -> tuple[int, ...]:
    conditionals, reference, sampler, series, draws = key
    comparison = COMPARISONS.index((conditionals, reference))
    return comparison, draws, list(SAMPLERS).index(sampler), list(SERIES).index(series)


def rejections_table(metrics: pd.DataFrame) -> Table:
    """Rejections at 0.05 and the largest distance of every row, held against each of its references.

    Args:
        metrics: Lines of ``kolmogorov_smirnov_metrics.csv`` of one profile and seed.
    """
    header = ["conditionals, sampler", "held against", "varied", "draws", "rejected", "largest D", "detectable D"]
    header.append("smallest corrected p")
    rows, provenance = [], []
    keys = ["conditionals", "reference", "sampler", "series", "draws"]
    groups = {key: part for key, part in metrics.groupby(keys)}
    for key in sorted(groups, key=_order):
        (conditionals, reference, sampler, series, draws), part = key, groups[key]
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
        provenance.append(provenance_of(part, "kolmogorov_smirnov_metrics.csv"))
    first = metrics.iloc[0]
    title = f"Kolmogorov-Smirnov tests at 0.05, one per urn and group; profile {first['profile']}, seed {first['seed']}"
    return Table(title, header, rows, provenance)
