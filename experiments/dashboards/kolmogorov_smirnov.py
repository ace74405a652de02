"""Section 5.1: are the samples distributed as they should be."""

from __future__ import annotations

from experiments.dashboards.dashboard import Bars, Curves, Dashboard

SERIES = {"weights": "weight of group 2", "draws": "number of draws n", "sizes": "size of group 2"}
REFERENCES, GROUPS = ("exact", "merged"), (1, 2, 3)


def _bars(quantity: str, title: str) -> Bars:
    return Bars(title, tuple(f"{reference}/{quantity}" for reference in REFERENCES))


def _curves(series: str, quantity: str, title: str) -> Curves:
    names = (f"{series}/{reference}/group_{group}/{quantity}" for reference in REFERENCES for group in GROUPS)
    return Curves(title, tuple(names))


DASHBOARD = Dashboard(
    name="kolmogorov_smirnov",
    rooms=("kolmogorov_smirnov",),
    group_by=("method", "profile"),
    sections={
        "Rejections": [
            _bars("rejections_at_0.05", "rejected tests at 0.05"),
            _bars("tests", "tests"),
            _bars("largest_ks_distance", "largest distance D"),
            _bars("smallest_chi_square_p_value", "smallest chi-square p"),
        ],
        **{
            f"Over the {varied}": [
                _curves(series, "ks_distance", f"distance D, urn by urn, {varied}"),
                _curves(series, "ks_p_corrected", f"p after Benjamini-Hochberg, urn by urn, {varied}"),
            ]
            for series, varied in SERIES.items()
        },
    },
)
