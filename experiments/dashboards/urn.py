"""Appendix B.5.1: weights of an urn by gradient descent."""

from __future__ import annotations

from experiments.dashboards.dashboard import Bars, Curves, Dashboard

WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)  # of the second group, one data set each


def _curves(quantity: str, title: str) -> Curves:
    return Curves(title, tuple(f"{quantity}/second_weight={weight}" for weight in WEIGHTS))


DASHBOARD = Dashboard(
    name="urn",
    rooms=("urn",),
    group_by=("method", "profile"),
    sections={
        "Losses": [
            _curves("train_loss", "squared loss in training, elements squared"),
            _curves("validation_loss", "squared loss in validation, elements squared"),
        ],
        "Learned log weights": [_curves(f"log_weight_{group}", f"log weight of group {group}") for group in (1, 2, 3)],
        "Recovery": [Bars("RMSE of the log weights", ("rmse",))],
    },
)
